"""Poses of parts: images brought to a mean pose, and maps back to the pixels of the image.

A pose is an angle in radians and a shift (x, y) in pixels. What lies at u in the mean pose, from the center of the
image, lies at R(angle)·u + shift in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


@dataclass(frozen=True)
class Poses:
    """The poses of n images, and what they were estimated by.

    Attributes
    ----------
    values : Tensor (n, 3), float32
        Angle, shift to the right, shift down; what is undone of the poses that were found.
    registration : object
        What a detector needs to estimate those of other images.
    found : Tensor (n, 3), float32, or None
        The poses that were found; None where they are not known.
    """

    values: Tensor
    registration: Any = None
    found: Tensor | None = None

    def images(self, rows: slice | Tensor) -> Poses:
        """The poses of some of the images."""
        return replace(self, values=self.values[rows], found=None if self.found is None else self.found[rows])

    @staticmethod
    def concatenate(parts: Sequence[Poses | None]) -> Poses | None:
        """The poses of all images of several parts, which all have some or none."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        found = [part.found for part in known if part.found is not None]
        values = torch.cat([part.values for part in known])
        return replace(known[0], values=values, found=torch.cat(found) if len(found) == len(known) else None)

    def to_mean(self, pixels: Tensor) -> Tensor:
        """Images (n, C, H, W) in the mean pose; what lies beyond an image is mirrored at its edge.

        By bicubic interpolation: a bilinear one blurs an image so much that defects of a few pixels are lost.
        """
        height, width = int(pixels.shape[2]), int(pixels.shape[3])
        x, y = self._at(*_centered(height, width))
        grid = torch.stack([x / (width / 2), y / (height / 2)], 3)
        warped = grid_sample(pixels.float(), grid, "bicubic", "reflection", align_corners=False)
        moved = (self.values != 0).any(1)
        if not moved.all():
            warped[~moved] = pixels[~moved].float()
        return warped

    def to_image(self, maps: Tensor) -> Tensor:
        """Maps (n, H, W) of the mean pose in the pixels of the images; the nearest value beyond its edge."""
        height, width = int(maps.shape[1]), int(maps.shape[2])
        x, y = self._back(*_centered(height, width))
        grid = torch.stack([x / (width / 2), y / (height / 2)], 3)
        restored = grid_sample(maps[:, None].float(), grid, padding_mode="border", align_corners=False)[:, 0]
        moved = (self.values != 0).any(1)
        return restored if moved.all() else torch.where(moved[:, None, None], restored, maps)

    def seen(self, grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
        """Which patches (n, h, w) of the mean pose have their center within the image."""
        height, width = image_size
        y, x = (
            (torch.arange(count) + 0.5) * size / count - size / 2 for count, size in zip(grid, image_size, strict=True)
        )
        x, y = self._at(x.expand(grid), y[:, None].expand(grid))
        return (x.abs() <= width / 2) & (y.abs() <= height / 2)

    def _at(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where points (H, W) of the mean pose lie in each image, (n, H, W)."""
        angle, dx, dy = self.values[:, :, None, None].unbind(1)
        cos, sin = angle.cos(), angle.sin()
        return cos * x - sin * y + dx, sin * x + cos * y + dy

    def _back(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where points (H, W) of each image lie in the mean pose, (n, H, W)."""
        angle, dx, dy = self.values[:, :, None, None].unbind(1)
        cos, sin = angle.cos(), angle.sin()
        x, y = x - dx, y - dy
        return cos * x + sin * y, cos * y - sin * x


class Mover(Protocol):
    """What says how images are moved."""

    def poses(self, pixels: Tensor) -> Poses:
        """The poses that are undone, of images (n, 3, H, W)."""


def _centered(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Coordinates x and y (H, W) of pixel centers, from the center of the image."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5 - height / 2, torch.arange(width) + 0.5 - width / 2, indexing="ij")
    return x, y


def multiply(first: Tensor, second: Tensor) -> Tensor:
    """Poses (n, 3) that go through the second first: u to first(second(u))."""
    angle, x, y = first.unbind(1)
    cos, sin = angle.cos(), angle.sin()
    shifted = torch.stack([cos * second[:, 1] - sin * second[:, 2] + x, sin * second[:, 1] + cos * second[:, 2] + y], 1)
    return torch.cat([wrapped(angle + second[:, 0])[:, None], shifted], 1)


def inverse(poses: Tensor) -> Tensor:
    """Poses (n, 3) that undo others."""
    angle, x, y = poses.unbind(1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([-angle, -(cos * x + sin * y), sin * x - cos * y], 1)


def wrapped(angle: Tensor) -> Tensor:
    """An angle in (−π, π]."""
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi
