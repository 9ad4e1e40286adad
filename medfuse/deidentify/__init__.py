"""De-identification after DICOM PS3.15 Annex E: what is kept is listed, everything else goes."""
