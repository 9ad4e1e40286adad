"""Programs with a face, built on medfuse."""
