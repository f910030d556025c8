"""Detectors: images to anomaly scores and maps."""
