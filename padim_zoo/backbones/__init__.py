"""Backbones: a batch of images to feature maps."""
