"""DICOM and DICOMweb: a node that receives, and a client that queries, fetches and sends."""
