"""Reports and evidence as files for other systems: PDF, DICOM SR and SEG, FHIR, pictures."""
