"""Two registered images as one picture: the network, its training and its measures."""
