"""Features of an image in blocks: each passes through the network with a halo, which is then cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AxisBlock:
    """A block along one axis, in pixels.

    Attributes
    ----------
    core : (int, int)
        Start and stop of the pixels whose features are wanted.
    block : (int, int)
        Start and stop with the halo.
    is_last : bool
        Whether the image ends with it.
    """

    core: tuple[int, int]
    block: tuple[int, int]
    is_last: bool

    @classmethod
    def of(cls, core: tuple[int, int], length: int, period: int, before: int, after: int) -> AxisBlock:
        """A block of an axis of ``length`` pixels.

        Its length leaves the same rest by the period as that of the axis: some networks pad by this rest.
        """
        stop = min(length, core[1] + after + length % period)
        return cls(core, (max(0, core[0] - before), stop), core[1] == length)

    def positions(self, stride: int, count: int) -> tuple[slice, slice]:
        """Where the features of the core lie: on the whole grid, and among the ``count`` of the block."""
        first, offset = self.core[0] // stride, (self.core[0] - self.block[0]) // stride
        size = count - offset if self.is_last else (self.core[1] - self.core[0]) // stride
        return slice(first, first + size), slice(offset, offset + size)

    @property
    def pixels(self) -> slice:
        """The pixels that pass through the network."""
        return slice(*self.block)


def cut_axis(length: int, count: int, period: int, before: int, after: int) -> list[AxisBlock]:
    """About ``count`` equal blocks of an axis, which start at multiples of the period."""
    starts = sorted({round(length * number / count / period) * period for number in range(count)})
    starts = [start for start in starts if start < length]
    stops = [*starts[1:], length]
    return [AxisBlock.of(core, length, period, before, after) for core in zip(starts, stops, strict=True)]


def block_maps(
    forward: Callable[[Tensor], list[Tensor]],
    images: Tensor,
    rows: Sequence[AxisBlock],
    columns: Sequence[AxisBlock],
    strides: Sequence[int],
) -> list[Tensor]:
    """The maps of images, block by block.

    Parameters
    ----------
    forward : callable
        Takes blocks (N, 3, h, w) of the images; returns a map (N, C_l, h_l, w_l) of each layer.
    images : Tensor (N, 3, H, W)
    rows, columns : sequence of AxisBlock
        In order; together they cover the image.
    strides : sequence of int
        Of the layers.

    Returns
    -------
    list of Tensor (N, C_l, H_l, W_l)
    """
    whole: list[Tensor] = []
    for row in reversed(rows):  # the last block tells how large the grids are
        for column in reversed(columns):
            maps = forward(images[:, :, row.pixels, column.pixels])
            for number, (layer, stride) in enumerate(zip(maps, strides, strict=True)):
                to_rows, from_rows = row.positions(stride, layer.shape[2])
                to_columns, from_columns = column.positions(stride, layer.shape[3])
                if number == len(whole):
                    shape = (*layer.shape[:2], to_rows.stop, to_columns.stop)
                    empty = torch.empty(
                        shape, dtype=layer.dtype, device=layer.device, memory_format=torch.channels_last
                    )
                    whole.append(empty)
                whole[number][:, :, to_rows, to_columns] = layer[:, :, from_rows, from_columns]
    return whole
