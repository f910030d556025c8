"""Folders and data sets: to samples, and to batches of images."""
