"""Images onto the grids of the encoders, and boxes of the grids back onto the images."""
