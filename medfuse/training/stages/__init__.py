"""What is trained, one stage a file: encoders, whole images, fusion, baselines, the writer."""
