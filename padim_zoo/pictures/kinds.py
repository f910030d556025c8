"""The kinds of pictures of a prediction: apart from what draws them, so that a command line knows them at no cost."""

from __future__ import annotations

PICTURES = ("heatmap", "overlay", "boundary", "highlight", "frame", "panel")

MAPLESS = ("frame",)
"""Those that need no anomaly map."""
