"""Tiles: parts of a large image that are images of their own, and the one map that theirs make.

Tiles lie in rows and columns, all of one size. Their features lie side by side in the same order, as a *mosaic*: a
grid of ``rows · h × columns · w`` positions for tiles of ``h × w``. Where tiles overlap, the mosaic holds a place of
the image more than once. Whatever looks at single positions works on a mosaic as on the grid of an image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from padim_zoo.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_COUNTS = re.compile(r"0*([1-9][0-9]{0,3})[xX]0*([1-9][0-9]{0,3})(?:\+([0-9]{1,5}))?", re.ASCII)
_NONE = re.compile(r"(0+[xX][0-9]+|[0-9]+[xX]0+)(\+[0-9]+)?", re.ASCII)
_SIZE = re.compile(r"0*([1-9][0-9]{0,4})\+([0-9]{1,5})", re.ASCII)

SMALLEST = 16
"""Pixels of the side of a tile, at least."""

MOST_PASSES = 16
"""How often the pixels of an image may pass through the network, as parts of tiles that overlap."""


@dataclass(frozen=True)
class Tiles:
    """How images are cut into tiles, whatever their size.

    Attributes
    ----------
    overlap : int
        Pixels that neighbors share, at least.
    counts : (int, int) or None
        Rows and columns of tiles.
    size : int or None
        Side of a tile in pixels. One of both is given.
    """

    overlap: int
    counts: tuple[int, int] | None = None
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> Tiles:
        """Read ``"2x2"`` (rows × columns), ``"2x2+64"`` (and overlap) or ``"512+64"`` (side and overlap in pixels).

        Raises
        ------
        InputError
            If the text is none of these, or tiles are no larger than their overlap.
        """
        found = "that is not a way to cut"
        given = text.strip() if isinstance(text, str) else ""
        if counts := _COUNTS.fullmatch(given):
            rows, columns = int(counts[1]), int(counts[2])
            if rows * columns > 1:
                return cls(int(counts[3] or 0), counts=(rows, columns))
            found = "one tile is the whole image"
        elif size := _SIZE.fullmatch(given):
            side, overlap = int(size[1]), int(size[2])
            if side >= SMALLEST and overlap < side:
                return cls(overlap, size=side)
            found = f"an overlap of {overlap} is not below the size, {side}"
            if side < SMALLEST:
                found = f"a tile has at least {SMALLEST} pixels a side"
        elif _NONE.fullmatch(given):
            found = "there is at least one row and one column"
        raise InputError(
            f"tiles is {text!r}, and {found}: expected ROWSxCOLUMNS, e.g. 2x2 or 2x2+64, or SIZE+OVERLAP in pixels, "
            "e.g. 512+64"
        )

    def __str__(self) -> str:
        if self.counts is None:
            return f"{self.size}+{self.overlap}"
        return f"{self.counts[0]}x{self.counts[1]}" + (f"+{self.overlap}" if self.overlap else "")

    def layout(self, image_size: tuple[int, int]) -> TileLayout:
        """The tiles of images of a size in pixels.

        Raises
        ------
        InputError
            If images are no larger than a tile, are cut too small, or into tiles of very many pixels in all.
        """
        if self.counts is None:
            assert self.size is not None
            sides = [min(self.size, length) for length in image_size]
            counts = [
                -(-(length - self.overlap) // (side - self.overlap)) if side < length else 1
                for length, side in zip(image_size, sides, strict=True)
            ]
        else:
            counts = list(self.counts)
            sides = [
                -(-(length + (count - 1) * self.overlap) // count)
                for length, count in zip(image_size, counts, strict=True)
            ]
        pixels = f"{image_size[0]}x{image_size[1]}"
        if counts == [1, 1]:
            raise InputError(
                f"tiles of {self.size} pixels cut nothing off images of {pixels} after the transform: choose smaller "
                "tiles, or keep more pixels (--resize none)"
            )
        least = max(self.overlap + 1, SMALLEST)
        if any(count > 1 and side < least for side, count in zip(sides, counts, strict=True)):
            raise InputError(
                f"tiles {self} are of {sides[0]}x{sides[1]} pixels in images of {pixels}: expected at least {least} "
                "pixels; choose fewer tiles, or keep more of the image (--resize none)"
            )
        passes = sides[0] * counts[0] * sides[1] * counts[1] / (image_size[0] * image_size[1])
        if passes > MOST_PASSES:
            raise InputError(
                f"tiles {self} of images of {pixels} are {counts[0]}x{counts[1]}, with {passes:.0f} times the pixels "
                f"of an image: expected at most {MOST_PASSES} times; choose a smaller overlap"
            )
        return TileLayout(*(AxisTiles.of(*axis) for axis in zip(image_size, sides, counts, strict=True)))


@lru_cache(maxsize=64)
def layout_of(tiles: str, image_size: tuple[int, int]) -> TileLayout:
    """The tiles of images of a size, as text says it; raises what :class:`Tiles` raises."""
    return Tiles.parse(tiles).layout(image_size)


@dataclass(frozen=True)
class AxisTiles:
    """Tiles along one axis of an image.

    Attributes
    ----------
    length, size : int
        Of the image and of a tile, in pixels.
    starts : tuple of int
        The first pixel of each tile.
    """

    length: int
    size: int
    starts: tuple[int, ...]

    @classmethod
    def of(cls, length: int, size: int, count: int) -> AxisTiles:
        """Tiles at even distances, from one end to the other."""
        return cls(length, size, tuple(int(start) for start in np.rint(np.linspace(0, length - size, count))))

    def upsampling(self, patches: int) -> np.ndarray:
        """What each patch of the mosaic gives each pixel, (pixels, patches), float64; rows sum to 1.

        A tile is upsampled alone, linearly, edges held. From one tile to the next, weights change along a straight
        line over their overlap and half a patch more on both sides. Between tiles that only touch, that is linear
        interpolation from the last patch of one to the first patch of the other, so there is no seam.

        Parameters
        ----------
        patches : int
            Of all tiles together.
        """
        of_tile = patches // len(self.starts)
        half = self.size / of_tile / 2
        centers = np.arange(self.length) + 0.5
        rows = np.arange(self.length)
        matrix = np.zeros((self.length, patches))
        for number, start in enumerate(self.starts):
            weight = np.ones(self.length)
            if number:
                first, last = start - half, self.starts[number - 1] + self.size + half
                weight = np.minimum(weight, (centers - first) / (last - first))
            if number + 1 < len(self.starts):
                first, last = self.starts[number + 1] - half, start + self.size + half
                weight = np.minimum(weight, (last - centers) / (last - first))
            at = np.clip((centers - start) / self.size * of_tile - 0.5, 0, of_tile - 1)
            below = np.minimum(at.astype(int), of_tile - 1)
            above = np.minimum(below + 1, of_tile - 1)
            weight = weight.clip(0)
            np.add.at(matrix, (rows, number * of_tile + below), weight * (1 - (at - below)))
            np.add.at(matrix, (rows, number * of_tile + above), weight * (at - below))
        return np.asarray(matrix / matrix.sum(1, keepdims=True))

    def cells(self, patches: int) -> np.ndarray:
        """Which patches of the mosaic a pixel lies in, (pixels, patches), bool: one of each tile that holds it."""
        of_tile = patches // len(self.starts)
        inside = np.zeros((self.length, patches), dtype=bool)
        own = (2 * np.arange(self.size) + 1) * of_tile // (2 * self.size)
        for number, start in enumerate(self.starts):
            inside[start + np.arange(self.size), number * of_tile + own] = True
        return inside


@dataclass(frozen=True)
class TileLayout:
    """The tiles of images of one size.

    Attributes
    ----------
    rows, columns : AxisTiles
    """

    rows: AxisTiles
    columns: AxisTiles

    @property
    def counts(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return len(self.rows.starts), len(self.columns.starts)

    @property
    def tile_size(self) -> tuple[int, int]:
        """Height and width of a tile in pixels."""
        return self.rows.size, self.columns.size

    @property
    def mosaic_size(self) -> tuple[int, int]:
        """Height and width of the mosaic of all tiles in pixels."""
        return self.counts[0] * self.rows.size, self.counts[1] * self.columns.size

    def __len__(self) -> int:
        return self.counts[0] * self.counts[1]

    def __str__(self) -> str:
        shared = [axis.size - (axis.starts[1] - axis.starts[0]) for axis in self._cut_axes]
        overlap = f", which overlap by {min(shared)} pixels" if min(shared) else ""
        return f"{self.counts[0]} x {self.counts[1]} of {self.rows.size}x{self.columns.size} pixels{overlap}"

    @property
    def _cut_axes(self) -> list[AxisTiles]:
        return [axis for axis in (self.rows, self.columns) if len(axis.starts) > 1]

    @cached_property
    def windows(self) -> tuple[tuple[slice, slice], ...]:
        """Rows and columns of each tile in the image, in the order of the tiles."""
        (height, width), columns = self.tile_size, self.columns.starts
        return tuple(
            (slice(top, top + height), slice(left, left + width)) for top in self.rows.starts for left in columns
        )

    def cut(self, images: Tensor) -> Tensor:
        """The tiles (n·tiles, …, h, w) of images (n, …, H, W), those of one image next to each other."""
        tiles = images.new_empty(len(images), len(self), *images.shape[1:-2], *self.tile_size)
        for number, (rows, columns) in enumerate(self.windows):
            tiles[:, number] = images[..., rows, columns]
        return tiles.flatten(0, 1)

    def mosaic(self, masks: Tensor) -> Tensor:
        """The mosaic (n, rows·h, columns·w) of masks (n, H, W)."""
        return self.assemble(self.cut(masks)[:, None])[:, 0]

    def assemble(self, tiles: Tensor) -> Tensor:
        """The mosaic (n, C, rows·h, columns·w) of maps of tiles (n·tiles, C, h, w)."""
        rows, columns = self.counts
        apart = tiles.reshape(-1, rows, columns, *tiles.shape[1:])  # (n, rows, columns, C, h, w)
        return apart.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def empty(self, images: int, like: Tensor) -> Tensor:
        """A mosaic (images, C, rows·h, columns·w) of undefined content, channels last, for maps like (m, C, h, w)."""
        height, width = (int(side) * count for side, count in zip(like.shape[2:], self.counts, strict=True))
        return like.new_empty(images, height, width, like.shape[1]).permute(0, 3, 1, 2)

    def place(self, mosaic: Tensor, tiles: Tensor, first: int) -> None:
        """Put maps of some tiles (m, C, h, w), from the number ``first`` on, where they belong in a mosaic."""
        height, width = tiles.shape[2:]
        for number, tile in enumerate(tiles, first):
            image, place = divmod(number, len(self))
            row, column = divmod(place, self.counts[1])
            mosaic[image, :, row * height : (row + 1) * height, column * width : (column + 1) * width] = tile

    def apart(self, mosaic: Tensor) -> Tensor:
        """The maps of tiles (n·tiles, C, h, w) of a mosaic (n, C, rows·h, columns·w)."""
        rows, columns = self.counts
        n, channels, height, width = mosaic.shape
        apart = mosaic.reshape(n, channels, rows, height // rows, columns, width // columns)
        return apart.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def restore(self, mosaic: Tensor) -> Tensor:
        """The masks (n, H, W) of which :meth:`mosaic` was made."""
        tiles = self.apart(mosaic[:, None]).reshape(-1, len(self), *self.tile_size)
        images = mosaic.new_empty(len(mosaic), self.rows.length, self.columns.length)
        for number, (rows, columns) in enumerate(self.windows):
            images[:, rows, columns] = tiles[:, number]
        return images
