"""Networks only: encoders, tokens, fusion, the shared space of images and words, the writer."""
