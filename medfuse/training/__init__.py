"""From a manifest to a bundle: one loop, five stages, checkpoints that know what they were made from."""
