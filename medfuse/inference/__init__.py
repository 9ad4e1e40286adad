"""One case through a bundle: findings, lesions, evidence, contributions of each sense."""
