"""A trained bundle on disk: its files, look-up, validated domain, calibration and 90 % answer sets."""
