"""Encoders that a user has on disk: their contract (encoder.yaml), loaders, checks, and the tokens they
give."""
