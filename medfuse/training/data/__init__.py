"""What training reads: checked manifests, preprocessed tensors, cached features, questions."""
