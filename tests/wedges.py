"""A part in any pose."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

SIDE = 64


def wedge(degrees: float, x: float, y: float, seed: int) -> np.ndarray:
    """A bright wedge on a dark ground, (SIDE, SIDE, 3), turned clockwise and shifted to the right and down."""
    rows, columns = np.meshgrid(*[np.arange(SIDE) + 0.5 - SIDE / 2] * 2, indexing="ij")
    angle, columns, rows = math.radians(degrees), columns - x, rows - y
    u = math.cos(angle) * columns + math.sin(angle) * rows
    v = math.cos(angle) * rows - math.sin(angle) * columns
    shape = ((np.abs(u) < 20) & (np.abs(v) < 4 + (u + 20) / 5)).astype(float)
    image = 60 + 120 * gaussian_filter(shape, 1) + np.random.default_rng(seed).normal(0, 3, shape.shape)
    return np.repeat(image.clip(0, 255).astype(np.uint8)[:, :, None], 3, 2)
