"""Questions on pictures: the answerer, its training and its controls."""
