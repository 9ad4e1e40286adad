"""From an archive of DICOM and reports in words to a checked training cohort, each step with its ledger."""
