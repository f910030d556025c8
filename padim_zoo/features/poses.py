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
from torch.nn.functional import avg_pool2d, grid_sample


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
    margin : int
        Pixels at each side that are looked at beyond the frame of an image.
    """

    values: Tensor
    registration: Any = None
    found: Tensor | None = None
    margin: int = 0

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

    def to_mean(self, pixels: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Images in the mean pose (n, C, h, w), with the margin; what lies beyond an image is mirrored at its edge.

        An image is interpolated once. One in finer pixels is read bilinearly at the centers of these, which have the
        mean pose, and each pixel is their mean: no more blurred than a resize leaves an image. One that has no finer
        pixels is read by bicubic interpolation: a bilinear one would lose defects of a few pixels. So is one whose
        pixels are repeated in finer ones.

        Parameters
        ----------
        pixels : Tensor (n, C, H, W)
            In pixels of the images, or in some times finer ones.
        size : (int, int), optional
            Height and width of the images in their own pixels; None if ``pixels`` are these.
        """
        height, width = size or (int(pixels.shape[2]), int(pixels.shape[3]))
        times, (rows, columns) = int(pixels.shape[2]) // height, framed((height, width), self.margin)
        moved = (self.values != 0).any(1)
        warped = []
        for image, pose, is_moved in zip(pixels, self.values, moved, strict=True):  # finer ones take memory
            image, finer = _without_repeats(image[None].float(), times)
            x, y = _at(pose[None], *_centered(rows, columns, finer))
            grid = torch.stack([x / (width / 2), y / (height / 2)], 3)
            mode = "bicubic" if finer == 1 else "bilinear"
            one = avg_pool2d(grid_sample(image, grid, mode, "reflection", align_corners=False), finer)
            if not is_moved:  # to the last bit
                m = self.margin
                one[:, :, m : m + height, m : m + width] = avg_pool2d(image, finer)
            warped.append(one)
        return torch.cat(warped)

    def to_image(self, maps: Tensor) -> Tensor:
        """Maps (n, h, w) of the mean pose in the pixels (n, H, W) of images; the nearest value beyond their edge."""
        rows, columns = int(maps.shape[1]), int(maps.shape[2])
        x, y = _back(self.values, *_centered(rows - 2 * self.margin, columns - 2 * self.margin))
        grid = torch.stack([x / (columns / 2), y / (rows / 2)], 3)
        restored = grid_sample(maps[:, None].float(), grid, padding_mode="border", align_corners=False)[:, 0]
        moved = (self.values != 0).any(1)
        inner = maps[:, self.margin : rows - self.margin, self.margin : columns - self.margin]
        return restored if moved.all() else torch.where(moved[:, None, None], restored, inner)

    def seen(self, grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
        """Which patches (n, h, w) of the mean pose have their center within the image."""
        height, width = image_size
        y, x = (
            (torch.arange(count) + 0.5) * size / count - size / 2
            for count, size in zip(grid, framed(image_size, self.margin), strict=True)
        )
        x, y = _at(self.values, x.expand(grid), y[:, None].expand(grid))
        return (x.abs() <= width / 2) & (y.abs() <= height / 2)


def _at(poses: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where points (H, W) of the mean pose lie in images in poses (n, 3), (n, H, W)."""
    angle, dx, dy = poses[:, :, None, None].unbind(1)
    cos, sin = angle.cos(), angle.sin()
    return cos * x - sin * y + dx, sin * x + cos * y + dy


def _back(poses: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where points (H, W) of images in poses (n, 3) lie in the mean pose, (n, H, W)."""
    angle, dx, dy = poses[:, :, None, None].unbind(1)
    cos, sin = angle.cos(), angle.sin()
    x, y = x - dx, y - dy
    return cos * x + sin * y, cos * y - sin * x


def _without_repeats(image: Tensor, times: int) -> tuple[Tensor, int]:
    """An image (1, C, H, W) in as few pixels as hold it, and how much finer these are: ``times``, or not at all."""
    few = image[:, :, ::times, ::times]
    places = ((row, column) for row in range(times) for column in range(times))  # the first tells of most images
    repeated = all(torch.equal(image[:, :, row::times, column::times], few) for row, column in places if row or column)
    return (few, 1) if repeated else (image, times)


class Mover(Protocol):
    """What says how images are moved.

    Attributes
    ----------
    finer : int
        Pixels along a side that it wants for each pixel of an image.
    margin : int
        Pixels at each side that are looked at beyond the frame of an image.
    """

    @property
    def finer(self) -> int: ...

    @property
    def margin(self) -> int: ...

    def poses(self, pixels: Tensor) -> Poses:
        """The poses that are undone, of images (n, 3, H, W)."""


def framed(size: tuple[int, int], margin: int) -> tuple[int, int]:
    """Height and width of what is looked at in the mean pose, of images of a size."""
    return size[0] + 2 * margin, size[1] + 2 * margin


def _centered(height: int, width: int, finer: int = 1) -> tuple[Tensor, Tensor]:
    """Coordinates x and y of pixel centers, or of those of finer pixels, from the center of the image."""
    y, x = ((torch.arange(side * finer) + 0.5) / finer - side / 2 for side in (height, width))
    y, x = torch.meshgrid(y, x, indexing="ij")
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
