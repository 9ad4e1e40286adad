"""Images as a reader sees them: slices in display order, marks on them, key images."""
