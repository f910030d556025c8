"""Fitted Gaussians in their exact forms."""
