"""Pictures of one prediction on the photo itself, at its own size; what was not looked at is gray."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_zoo.pictures.colormap import Picture, Scale, heat_map
from padim_zoo.pictures.overlays import boundary, grayed, highlight, overlay
from padim_zoo.pictures.panels import frame, panels

PANEL_SIDE = 640
"""Pixels of the longer side of each part of a panel, at most about: five photos side by side would be too large."""


@dataclass(frozen=True)
class ScoredPhoto:
    """What a detector says of one photo.

    Attributes
    ----------
    image : ndarray (H, W, 3), uint8
    score, threshold : float
        The image is anomalous if its score exceeds the threshold.
    seen : ndarray (H, W), bool
        What was looked at.
    anomaly_map : ndarray (H, W) or None
        NaN where nothing was scored.
    scale : (low, high), optional
        The scores of the first and the last color.
    map_threshold : float, optional
        Pixels that exceed it lie within the boundary.
    mask : ndarray (H, W), bool, or None
        The ground truth, where it is known.
    """

    image: Picture
    score: float
    threshold: float
    seen: npt.NDArray[np.bool_]
    anomaly_map: npt.NDArray[np.floating] | None = None
    scale: Scale | None = None
    map_threshold: float | None = None
    mask: npt.NDArray[np.bool_] | None = None


def draw(kind: str, scored: ScoredPhoto, alpha: float, colors: str) -> Picture:
    """A picture of a kind of :data:`~padim_zoo.pictures.kinds.PICTURES`."""
    image = grayed(scored.image, ~scored.seen)
    if kind == "frame":
        return frame(image, scored.score, scored.threshold)
    assert scored.anomaly_map is not None
    assert scored.scale is not None
    assert scored.map_threshold is not None
    anomaly_map, scale, limit = scored.anomaly_map, scored.scale, scored.map_threshold
    if kind == "heatmap":
        return heat_map(anomaly_map, scale, colors)
    if kind == "overlay":
        return overlay(image, anomaly_map, scale, alpha, colors)
    if kind == "boundary":
        return boundary(image, anomaly_map, limit)
    if kind == "highlight":
        return highlight(image, anomaly_map, limit)
    step = max(1, round(max(image.shape) / PANEL_SIDE))
    small = np.asarray(Image.fromarray(image).reduce(step))
    mask = None if scored.mask is None else scored.mask[::step, ::step]
    return panels(small, mask, anomaly_map[::step, ::step], scale, limit, alpha, colors)
