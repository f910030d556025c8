"""One view of an image: mirrored, turned, moved, brighter; and back to the pixels of the image.

An image is warped after its resize and before its crop, so that what a small rotation or translation brings into the
crop is the image itself. What lies beyond the image is mirrored at its edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # operations that cannot be read are refused without torch
    from torch import Tensor


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes
    ----------
    flip, vflip : bool
        Mirrored left to right, top to bottom.
    angle : float
        Degrees that the image is turned, counter-clockwise, about the center of the crop.
    translation : (float, float)
        How far it is moved to the right and down, in shares of the width and the height of the crop; before the rest.
    brightness, contrast : float
        Factors of the pixels, and of their distances from the mean of the view.
    """

    flip: bool = False
    vflip: bool = False
    angle: float = 0.0
    translation: tuple[float, float] = (0.0, 0.0)
    brightness: float = 1.0
    contrast: float = 1.0

    @property
    def resamples(self) -> bool:
        """Whether pixels come to lie between pixels."""
        return self.angle != 0 or self.translation != (0.0, 0.0)

    def image(self, resized: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        """The view of an image.

        Parameters
        ----------
        resized : ndarray (H, W, 3), uint8
            The image before its crop.
        box : tuple of int
            Top, left, bottom and right of the crop.

        Returns
        -------
        ndarray (h, w, 3), uint8
            Of the size of the crop.
        """
        view = self._cut_out(resized, box, Image.Resampling.BILINEAR, mirror=True)
        if self.brightness != 1:
            view = _pixels(view * self.brightness)
        if self.contrast != 1:
            mean = view.mean()
            view = _pixels(mean + self.contrast * (view - mean))
        return np.ascontiguousarray(view)

    def mask(self, resized: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        """The view of a mask (H, W), bool, of the image before its crop; nothing beyond the image belongs to it."""
        mask = self._cut_out(resized.view(np.uint8), box, Image.Resampling.NEAREST, mirror=False)
        return np.ascontiguousarray(mask).view(bool)

    def restore(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Bring maps of the view back to the pixels of the image.

        Returns
        -------
        maps : Tensor (N, h, w), float32
            Bilinear; 0 where the view does not show the pixel.
        seen : Tensor (h, w), bool
            Where it does.
        """
        import torch
        from torch.nn.functional import grid_sample

        height, width = maps.shape[1:]
        if not self.resamples:
            dims = [dim for dim, mirrored in ((1, self.vflip), (2, self.flip)) if mirrored]
            return (maps.flip(dims) if dims else maps), torch.ones(height, width, dtype=torch.bool)
        y, x = np.meshgrid(np.arange(height) + 0.5 - height / 2, np.arange(width) + 0.5 - width / 2, indexing="ij")
        # Where each pixel of the image lies in the view, from the center.
        x, y = x + self.translation[0] * width, y + self.translation[1] * height
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        u, v = cos * x + sin * y, cos * y - sin * x
        u, v = (-u if self.flip else u), (-v if self.vflip else v)
        u, v = u / (width / 2), v / (height / 2)
        seen = torch.from_numpy((np.abs(u) <= 1) & (np.abs(v) <= 1))
        grid = torch.from_numpy(np.stack([u, v], 2)).float().expand(len(maps), height, width, 2)
        restored = grid_sample(maps[:, None].float(), grid, padding_mode="border", align_corners=False)[:, 0]
        return restored * seen, seen

    def _cut_out(
        self, resized: np.ndarray, box: tuple[int, int, int, int], resampling: Image.Resampling, mirror: bool
    ) -> np.ndarray:
        """The crop of an image or mask, uint8, in the geometry of the view."""
        top, left, bottom, right = box
        if not self.resamples:
            return resized[top:bottom, left:right][:: -1 if self.vflip else 1, :: -1 if self.flip else 1]
        height, width = bottom - top, right - left
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        # From the pixel (u, v) of the view to that of the image, from the center: mirrored back, turned back, moved
        # back.
        matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1 if self.flip else 1, -1 if self.vflip else 1])
        size = np.array([width, height])
        offset = np.array([left + right, top + bottom]) / 2 - self.translation * size
        reach = np.abs(matrix) @ size / 2
        low, high = offset - reach, offset + reach
        margin = 0
        if mirror:
            beyond = max((-low).max(), (high - resized.shape[1::-1]).max())
            margin = max(0, math.ceil(beyond) + 1)
            if margin:
                resized = np.pad(resized, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
        start = offset + margin - matrix @ size / 2
        data = (*matrix[0], start[0], *matrix[1], start[1])
        return np.asarray(Image.fromarray(resized).transform((width, height), Image.Transform.AFFINE, data, resampling))


def mean_of_views(maps: Tensor, views: Sequence[View], roi_masks: Tensor | None = None) -> Tensor:
    """The mean, at each pixel, of the maps of the views that show it.

    Parameters
    ----------
    maps : Tensor (N, V, h, w)
        Of each view, in its own pixels.
    views : sequence of V View
        The first is the image as it is, so that some view shows every pixel.
    roi_masks : Tensor (N, V, h, w), bool, optional
        The pixels of each view that count; the others have no part, and a pixel between some of both is weighed by
        its share of those that do.

    Returns
    -------
    Tensor (N, h, w), float32
        0 where no view counts.
    """
    import torch

    total, weight = torch.zeros(()), torch.zeros(())
    for number, view in enumerate(views):
        if roi_masks is None:
            restored, share = view.restore(maps[:, number])
        else:
            restored, seen = view.restore(maps[:, number] * roi_masks[:, number])
            share = view.restore(roi_masks[:, number].float())[0] * seen
        total, weight = total + restored, weight + share
    return total / weight if roi_masks is None else torch.where(weight > 0, total / weight.clamp_min(1e-6), 0)


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(values).clip(0, 255), dtype=np.uint8)
