"""A memory bank of normal patches, searched as a whole or within some positions of each patch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from padim_zoo.core.nearest_neighbors import distances_to, nearest_neighbors

SEARCHED_AT_ONCE = 16 * 2**20
"""Bytes of patches, and of their squared distances to those of images, that a local search has in memory together."""


@dataclass(frozen=True)
class Neighborhoods:
    """Which patches of a memory bank lie within some positions of each position of a grid, along both axes.

    The grid is cut into cells of radius + 1 positions a side. Every position is within the radius of all others of its
    cell, so a bank that holds a patch of each cell holds one for each position.

    Attributes
    ----------
    positions : Tensor (m,), int64
        Of the patches of the bank, on the grid row by row.
    grid : tuple of int
        Height and width.
    radius : int
    """

    positions: Tensor
    grid: tuple[int, int]
    radius: int

    @cached_property
    def cells(self) -> Tensor:
        """The positions of each cell, (cells, k), row by row; one that a cell at the edge lacks is another of it."""
        side = self.radius + 1
        starts = [torch.arange(0, length, side) for length in self.grid]
        rows, columns = (
            (start[:, None] + torch.arange(min(side, length))).clamp_max(length - 1)
            for start, length in zip(starts, self.grid, strict=True)
        )
        return (rows[:, None, :, None] * self.grid[1] + columns[None, :, None, :]).flatten(0, 1).flatten(1)

    def of_cells(self) -> list[Tensor]:
        """The numbers of the patches of the bank that lie in each cell, where any do."""
        side, width = self.radius + 1, self.grid[1]
        numbers = self.positions // width // side * width + self.positions % width // side
        counts = numbers.bincount()
        return list(torch.split(numbers.argsort(stable=True), counts[counts > 0].tolist()))

    @cached_property
    def near(self) -> Tensor:
        """The patches of the bank near each cell: all within the radius of one of its positions, (cells, R).

        -1 stands where a cell has fewer of them than another.
        """
        (height, width), order = self.grid, self.positions.argsort(stable=True)
        first = torch.searchsorted(self.positions[order], torch.arange(height * width + 1)).tolist()
        some = []
        for cell in self.cells[:, [0, -1]].tolist():
            (top, left), (bottom, right) = (divmod(corner, width) for corner in cell)
            top, left = max(0, top - self.radius), max(0, left - self.radius)
            bottom, right = min(height - 1, bottom + self.radius), min(width - 1, right + self.radius)
            lines = [slice(first[row * width + left], first[row * width + right + 1]) for row in range(top, bottom + 1)]
            some.append(torch.cat([order[line] for line in lines]))
        return pad_sequence(some, batch_first=True, padding_value=-1)

    def beyond(self, cells: slice, patches: slice) -> Tensor:
        """Which of the patches near some cells are beyond the radius of which position, (cells, k, patches)."""
        near, width = self.near[cells, patches], self.grid[1]
        here, there = self.cells[cells], self.positions[near][:, None]
        columns = int((here[0] < here[0, 0] + width).sum())  # of a cell, whose positions go row by row
        far_rows = (here[:, ::columns, None] // width - there // width).abs() > self.radius
        far_columns = (here[:, :columns, None] % width - there % width).abs() > self.radius
        return ((far_rows | (near < 0)[:, None])[:, :, None] | far_columns[:, None]).flatten(1, 2)

    def within(self, position: int) -> Tensor:
        """The patches of the bank within the radius of a position, (r,), int64."""
        (row, column), width = divmod(position, self.grid[1]), self.grid[1]
        far = ((self.positions // width - row).abs() > self.radius) | (
            (self.positions % width - column).abs() > self.radius
        )
        return (~far).nonzero()[:, 0]

    @cached_property
    def served(self) -> Tensor:
        """Which positions (P,) have a patch of the bank within the radius."""
        held = torch.zeros(self.grid, dtype=torch.bool)
        held.view(-1)[self.positions] = True
        for axis in (0, 1):
            lines = held.unbind(axis)
            spans = (lines[max(0, at - self.radius) : at + self.radius + 1] for at in range(len(lines)))
            held = torch.stack([torch.stack(span).any(0) for span in spans], axis)
        return held.flatten()


@dataclass(frozen=True)
class MemoryBank:
    """Normal patches, with which those of images are compared.

    Attributes
    ----------
    patches : Tensor (m, D), float32
    neighborhoods : Neighborhoods or None
        Where they lie; None where each patch of an image is compared with all of them.
    """

    patches: Tensor
    neighborhoods: Neighborhoods | None = None

    @property
    def movable(self) -> bool:
        """Whether its copy on a device is searched there: not within neighborhoods, which are numbers of patches."""
        return self.neighborhoods is None

    def __len__(self) -> int:
        return len(self.patches)

    def some(self, rows: Tensor) -> MemoryBank:
        """The bank with some of the patches only, by their numbers or by a mask."""
        places = self.neighborhoods
        if places is not None:
            places = Neighborhoods(places.positions[rows], places.grid, places.radius)
        return MemoryBank(self.patches[rows], places)

    def joined(self, other: MemoryBank) -> MemoryBank:
        """The patches of both, which were made alike."""
        places = self.neighborhoods
        if places is not None and other.neighborhoods is not None:
            positions = torch.cat([places.positions, other.neighborhoods.positions])
            places = Neighborhoods(positions, places.grid, places.radius)
        return MemoryBank(torch.cat([self.patches, other.patches]), places)

    def counted(self, present: Tensor | None, n: int) -> Tensor | None:
        """Which patches (P, n) have a score, by those that count in each image, if not all do."""
        if self.neighborhoods is None or self.neighborhoods.served.all():
            return present
        served = self.neighborhoods.served[:, None].expand(-1, n)
        return served if present is None else served & present

    def serves_less_than(self, other: MemoryBank) -> bool:
        """Whether positions have no patch near them that have one in another bank."""
        if self.neighborhoods is None or other.neighborhoods is None:
            return False
        return bool((other.neighborhoods.served & ~self.neighborhoods.served).any())

    def nearest(self, layer: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (P, N) of the patches of images (P, N, D) to the nearest of the bank, and which these are.

        Those of a position that no patch of the bank is near to mean nothing.
        """
        if self.neighborhoods is None:
            distances, rows = nearest_neighbors(layer.flatten(0, 1), self.patches)
            return distances.view(layer.shape[:2]), rows.view(layer.shape[:2])
        rows = self._nearest_within(layer, self.neighborhoods)
        distances = distances_to(layer.flatten(0, 1), self.patches, rows.view(-1, 1))
        return distances.view(layer.shape[:2]), rows

    @cached_property
    def _center(self) -> tuple[Tensor, Tensor]:
        """The mean patch, and the squared distances (m,) to it: products lose digits far from the origin."""
        center, size = self.patches.mean(0), max(1, SEARCHED_AT_ONCE // (4 * self.patches.shape[1]))
        parts = [(part - center).square().sum(1) for part in torch.split(self.patches, size)]
        return center, torch.cat(parts)

    def _nearest_within(self, layer: Tensor, places: Neighborhoods) -> Tensor:
        """Numbers (P, N) of the nearest patches of the bank within the radius, by products of cells with cells."""
        center, norms = self._center
        count, k = places.cells.shape
        R, (P, N, D) = places.near.shape[1], layer.shape
        rows = torch.zeros(P, N, dtype=torch.int64)
        patches_at_once = min(R, max(1, SEARCHED_AT_ONCE // (4 * max(D, k))))
        cells_at_once = max(1, SEARCHED_AT_ONCE // (4 * max(D, k) * patches_at_once))
        images_at_once = max(1, SEARCHED_AT_ONCE // (4 * cells_at_once * k * max(D, patches_at_once)))
        for cells in _slices(count, cells_at_once):
            best = torch.full((*places.cells[cells].shape, N), torch.inf)
            found = torch.zeros(best.shape, dtype=torch.int64)
            for patches in _slices(R, patches_at_once):
                near = places.near[cells, patches].clamp_min(0)
                references = self.patches[near].sub_(center).mT  # (cells, D, patches)
                limits = torch.where(places.beyond(cells, patches), torch.inf, norms[near][:, None])
                for images in _slices(N, images_at_once):
                    asked = (layer[places.cells[cells], images] - center).mul_(-2)  # (cells, k, images, D)
                    products = (asked.flatten(1, 2) @ references).view(*asked.shape[:3], -1)
                    values, indices = products.add_(limits[:, :, None]).min(3)
                    closer = values < best[..., images]
                    which = near.gather(1, indices.flatten(1)).view(indices.shape)
                    best[..., images] = torch.where(closer, values, best[..., images])
                    found[..., images] = torch.where(closer, which, found[..., images])
            rows[places.cells[cells]] = found
        return rows

    def around(self, nearest: Tensor, positions: Tensor, k: int) -> Tensor:
        """The k patches nearest to some of the bank, among those within the radius of a position each, (n, k).

        -1 stands where there are fewer.
        """
        if self.neighborhoods is None:
            return nearest_neighbors(self.patches[nearest], self.patches, k)[1]
        some = []
        for patch, position in zip(nearest, positions, strict=True):
            rows = self.neighborhoods.within(int(position))
            if len(rows):
                rows = rows[nearest_neighbors(self.patches[patch][None], self.patches[rows], k)[1][0]]
            some.append(pad(rows, (0, k - len(rows)), value=-1))
        return torch.stack(some)


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
