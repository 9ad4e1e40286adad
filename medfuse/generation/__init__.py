"""Images made from claims and from other images: a small autoencoder a modality and one latent flow over all.
Synthetic, and marked so: never evidence."""
