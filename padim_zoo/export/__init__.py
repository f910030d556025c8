"""Fitted detectors as single networks, image in and anomaly score and map out, for runtimes that know no padim-zoo."""
