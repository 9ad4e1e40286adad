"""One volume brought onto another, with a verdict on the result's quality."""
