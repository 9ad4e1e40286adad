"""Measures only: findings, subsets, lesions, retrieval, words and readers, with their intervals."""
