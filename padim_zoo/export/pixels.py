"""The first step of an exported network: uint8 images to what a backbone takes, with Pillow's own resize if wanted.

Pillow resizes uint8 images in integers. So that every runtime gives the same bytes, the sums here are of whole numbers
that float32 holds exactly, in whatever order a matrix product adds them up.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from padim_zoo.data.transform import Transform

POINT = 22
"""Bits after the point of the coefficients by which Pillow resizes uint8 images."""
HALF = POINT // 2


def pillow_coefficients(pixels: int, resized: int) -> np.ndarray:
    """Pillow's antialiased bilinear resize of one axis of uint8 images.

    A triangle as wide as the scale, cut at the edges and normalized.

    Returns
    -------
    ndarray (resized, pixels), int64
        In units of 2⁻²².
    """
    scale = pixels / resized
    support = max(scale, 1.0)
    matrix = np.zeros((resized, pixels), dtype=np.int64)
    for row in range(resized):
        center = (row + 0.5) * scale
        first, last = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), pixels)
        weights = np.maximum(0, 1 - np.abs((np.arange(first, last) - center + 0.5) / support))
        matrix[row, first:last] = weights / weights.sum() * 2**POINT + 0.5
    return matrix


class ResizedAxis(nn.Module):
    """Columns of float images (…, H, W) that hold whole numbers from 0 to 255 to other columns, as Pillow rounds them.

    Parameters
    ----------
    coefficients : ndarray (W', W), int64
        Rows of :func:`pillow_coefficients`.
    """

    high: Tensor
    low: Tensor | None

    def __init__(self, coefficients: np.ndarray) -> None:
        super().__init__()
        # Products of a byte and 11 bits have 19 bits, and float32 holds 24.
        high, low = coefficients.T >> HALF, coefficients.T & (2**HALF - 1)
        self.register_buffer("high", torch.from_numpy(high).float())
        # Where the scale is a power of two the coefficients have few bits.
        self.register_buffer("low", torch.from_numpy(low).float() if low.any() else None)

    def forward(self, pixels: Tensor) -> Tensor:
        """All rows; halves are rounded upwards."""
        total = pixels @ self.high + 2 ** (HALF - 1)
        if self.low is not None:
            total = total + (pixels @ self.low * 2**-HALF).floor()
        rounded: Tensor = (total * 2**-HALF).floor().clamp(0, 255)
        return rounded


class Pixels(nn.Module):
    """uint8 images (N, H, W, 3) to float32 (N, 3, H', W') in [0, 1].

    Parameters
    ----------
    transform : Transform
        Resize and crop.
    size : tuple of int, optional
        Height and width of the images, to which the transform is then applied; None for images after it.
    """

    def __init__(self, transform: Transform, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.columns: ResizedAxis | None = None
        self.rows: ResizedAxis | None = None
        self.box: tuple[int, int, int, int] | None = None
        if size is None:
            return
        height, width = transform.resized_size(*size)
        top, left, bottom, right = transform.crop_box(height, width)
        # Only what the crop keeps is computed; an axis that keeps its length is not resampled.
        if width != size[1]:
            self.columns = ResizedAxis(pillow_coefficients(size[1], width)[left:right])
            left, right = 0, right - left
        if height != size[0]:
            self.rows = ResizedAxis(pillow_coefficients(size[0], height)[top:bottom])
            top, bottom = 0, bottom - top
        self.box = top, left, bottom, right

    def forward(self, images: Tensor) -> Tensor:
        """Resize, crop, scale."""
        pixels = images.permute(0, 3, 1, 2).float()
        if self.columns is not None:
            pixels = self.columns(pixels)
        if self.rows is not None:
            pixels = self.rows(pixels.transpose(2, 3)).transpose(2, 3)
        if self.box is not None:
            top, left, bottom, right = self.box
            pixels = pixels[:, :, top:bottom, left:right]
        return pixels / 255
