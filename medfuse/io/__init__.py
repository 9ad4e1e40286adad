"""DICOM, NIfTI and pictures into images with their own geometry; nothing is changed silently."""
