"""Simulated patients: one anatomy, imaged by the physics of CT, MR and ultrasound. Simulated, and says so."""
