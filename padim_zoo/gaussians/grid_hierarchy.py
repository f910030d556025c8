"""Grids that nest: what all patches that share a position of a coarse layer have in common, as a tree of cells.

Channels of a coarse layer are the same at all patches that lie on one of its positions, and so is their covariance.
With the coarse channels first, the columns of an upper triangular F with F Fᵀ = Σ⁻¹ that belong to a layer depend on
this and on coarser layers only, so that they are the same at all those patches too.

F's columns that belong to a level act on the channels of this level and of all coarser ones. Taken the other way
round, the channels of one coarse position act on the columns of its own and on those of every finer position inside
it: all of these side by side are one matrix, the *weights* of that position, and

    y = δ · weights = [what its own columns get | what the columns of child 0 get | of child 1 | …]

is passed down and added to what the children get of their own channels. No deviation is repeated for finer positions,
and every number is read once. The numbers are those of the factors, in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from padim_zoo.core.parallel import all_threads_for
from padim_zoo.features.features import nearest_positions
from padim_zoo.features.patch_embeddings import Layout, PatchEmbeddings
from padim_zoo.statistics.samples import Samples, Statistics

REFIT_LIMIT = 2**30
"""Products of two numbers that factors of few images may take to be fitted, since each process that loads a model does
it anew. 50 images of 256 × 256 take .3 of it with 64 channels and .46 with 100: up to .7 seconds of one core."""

IMAGES_AT_ONCE = 512
"""Whose samples are in float64 together, so that memory does not grow with the number of images."""


@dataclass(frozen=True)
class Level:
    """The layers of one grid, and all that are coarser.

    Attributes
    ----------
    grid : tuple of int
    layers : list of int
        Coarse layers first; those of this grid are the last.
    dims : Tensor (d,), int64
        Their dimensions in an embedding.
    own : int
        How many dimensions are those of this grid.
    patches : Tensor (P,), int64
        The position on this grid of every patch.
    first : Tensor (positions,), int64
        One patch of every position.
    """

    grid: tuple[int, int]
    layers: list[int]
    dims: Tensor
    own: int
    patches: Tensor
    first: Tensor


def levels(layout: Layout) -> list[Level]:
    """The grids of the layers, coarse ones first; none if a finer position lies on several of a coarser grid."""
    width = layout.widths
    starts = [sum(width[:number]) for number in range(len(width))]
    nested: list[Level] = []
    for grid in sorted({layout.grids[layer] for layer in layout.used}, key=lambda grid: grid[0] * grid[1]):
        coarser = [layer for level in nested[-1:] for layer in level.layers]
        own = [layer for layer in layout.used if layout.grids[layer] == grid]
        dims = [torch.arange(starts[layer], starts[layer] + width[layer]) for layer in coarser + own]
        patches = nearest_positions(grid, layout.grid)
        first = torch.full((grid[0] * grid[1],), len(patches)).scatter_reduce(
            0, patches, torch.arange(len(patches)), "amin"
        )
        if int(first.max()) == len(patches):
            return []
        if nested and not torch.equal(nested[-1].patches, nested[-1].patches[first][patches]):
            return []
        nested.append(Level(grid, coarser + own, torch.cat(dims), sum(width[layer] for layer in own), patches, first))
    return nested


def factor_numbers(nested: Sequence[Level]) -> int | None:
    """How many numbers the factors of all levels are, or None where there are no grids that nest."""
    return sum(len(level.first) * len(level.dims) * level.own for level in nested) if len(nested) > 1 else None


def suits_few_images(nested: Sequence[Level], n: int) -> bool:
    """Whether the factors of n images are fewer numbers than those of the dual form, and soon fitted."""
    numbers = factor_numbers(nested)
    if numbers is None or numbers * n > REFIT_LIMIT:
        return False
    samples = n * sum(len(level.first) * level.own for level in nested)
    return numbers <= len(nested[-1].patches) * n * n // 2 + samples


def advice_on_size(layout: Layout, image_size: tuple[int, int], step: int) -> str | None:
    """Which size of images would give a smaller and faster model; None where grids nest, or there is one alone.

    Parameters
    ----------
    layout : Layout
    image_size : tuple of int
        Height and width in pixels of the images that embeddings of this layout are of.
    step : int
        The largest stride of the layers.
    """
    if len({layout.grids[layer] for layer in layout.used}) < 2 or levels(layout):
        return None
    better = [str(side) for side in sorted({side // step * step for side in image_size}) if side]
    grids = ", ".join(f"{height}x{width}" for height, width in dict.fromkeys(layout.grids))
    return (
        f"images of {image_size[0]}x{image_size[1]} give grids that do not nest ({grids}), so that the "
        f"model is larger and slower than it need be: sizes that are multiples of {step} are better"
        + (f", e.g. {' and '.join(better)}" if better else "")
    )


class Cells:
    """The positions of all levels in the order of a tree: those inside one coarser position next to each other.

    Where positions differ in how many finer ones lie inside them, missing ones are filled in, whose weights are 0.

    Parameters
    ----------
    nested : sequence of Level
        At least one, coarse ones first.

    Attributes
    ----------
    nested : sequence of Level
    count : int
        Slots of the first level.
    positions : list of Tensor (slots,), int64
        For each level, the position in each slot; that of a sister in those that are filled in.
    children : list of int
        How many slots of a level lie in one slot of the level before; 1 for the first.
    inside : list of int
        How many lie in one slot of the first level.
    """

    def __init__(self, nested: Sequence[Level]) -> None:
        self.nested = nested
        self.count = len(nested[0].first)
        slots = [torch.arange(len(nested[0].first))]
        self.positions = slots[:]
        self.children = [1]
        for coarse, fine in pairwise(nested):
            parents = coarse.patches[fine.first]
            order = torch.argsort(parents, stable=True)
            counts = torch.bincount(parents, minlength=len(coarse.first))
            ranks = torch.arange(len(order)) - (counts.cumsum(0) - counts)[parents[order]]
            table = torch.full((len(coarse.first) + 1, int(counts.max())), -1)  # the last row is for position −1
            table[parents[order], ranks] = order
            slots.append(table[slots[-1]].flatten())
            # Position −1 is the last row; one that is filled in has the covariance of a sister with the same parents.
            self.positions.append(torch.where(table < 0, table[:, :1], table)[self.positions[-1]].flatten())
            self.children.append(table.shape[1])
        self.inside = [prod(self.children[: level + 1]) for level in range(len(nested))]
        self._absent = [None if bool((slot >= 0).all()) else slot < 0 for slot in slots]
        self._slots = [_inverse(slot, len(level.first)) for slot, level in zip(slots, nested, strict=True)]
        self.of_patches = self._slots[-1][nested[-1].patches]
        own = [level.own for level in nested]
        self._rows = [slice(stop - width, stop) for width, stop in zip(own, torch.tensor(own).cumsum(0), strict=True)]
        self._own_layers = [
            level.layers[len(coarser) :]
            for level, coarser in zip(nested, [[], *(level.layers for level in nested)], strict=False)
        ]
        self._widths = own[:]
        for level in reversed(range(len(own) - 1)):
            self._widths[level] += self.children[level + 1] * self._widths[level + 1]

    def weights(self, columns: Sequence[Tensor], cells: slice) -> tuple[Tensor, ...]:
        """The weights (cells, slots in one, width, own) of each level at some cells, which are slots of the first.

        They are transposed: one embedding is multiplied with them in two thirds of the time.

        Parameters
        ----------
        columns : sequence of Tensor (slots, rows, own)
            For each level, the columns of F that are its own in all its slots of these cells; overwritten.
        cells : slice
        """
        for absent, inside, own in zip(self._absent, self.inside, columns, strict=True):
            if absent is not None:
                own[absent[cells.start * inside : cells.stop * inside]] = 0
        all_weights = []
        for level, rows in enumerate(self._rows):
            weights = columns[-1][:, rows]
            for at in range(len(columns) - 2, level - 1, -1):
                weights = torch.cat([columns[at][:, rows], stack_columns(weights, self.children[at + 1])], 2)
            transposed = weights.mT.contiguous()
            all_weights.append(transposed.view(cells.stop - cells.start, -1, *transposed.shape[1:]))
        return tuple(all_weights)

    def scatters(self, statistics: Statistics, cells: slice) -> list[Tensor]:
        """For each level, the columns of the scatter matrices (slots, rows, own) that its own channels have."""
        slots = [slice(cells.start * inside, cells.stop * inside) for inside in self.inside]
        if not isinstance(statistics, Samples):
            positions = [positions[part] for positions, part in zip(self.positions, slots, strict=True)]
            whole = (statistics.scatter(level.first[at]) for level, at in zip(self.nested, positions, strict=True))
            return [
                scatter[:, level.dims[:, None], level.dims[-level.own :]]
                for scatter, level in zip(whole, self.nested, strict=True)
            ]
        parts = [
            self._products(statistics, slots, slice(start, start + IMAGES_AT_ONCE))
            for start in range(0, statistics.n, IMAGES_AT_ONCE)
        ]
        return [sum(of_level[1:], start=of_level[0]) for of_level in zip(*parts, strict=True)]

    def _products(self, statistics: Samples, slots: Sequence[slice], images: slice) -> list[Tensor]:
        """What some of the images add to the scatter matrices."""
        samples: list[Tensor] = []
        scatters = []
        for level, part in enumerate(slots):
            samples.append(self._deviations(level, part, statistics.embeddings, statistics.mean, images).double())
            # Samples of a coarser position are multiplied with those of all inside it, and not repeated for each.
            counts = [self.inside[level] // inside for inside in self.inside[: level + 1]]
            products = [
                split_columns(theirs.mT @ stack_columns(samples[-1], count), count)
                for theirs, count in zip(samples, counts, strict=True)
            ]
            scatters.append(torch.cat(products, 1))
        return scatters

    def _deviations(
        self,
        level: int,
        slots: slice,
        embeddings: PatchEmbeddings,
        mean: PatchEmbeddings,
        images: slice = slice(None),
    ) -> Tensor:
        """A level's own channels about their mean in some of its slots, (slots, n, own)."""
        at = self.positions[level][slots]
        parts = [embeddings.layers[layer][:, images][at] - mean.layers[layer][at] for layer in self._own_layers[level]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def columns(self, weights: Sequence[Tensor], level: int, positions: Tensor) -> Tensor:
        """The columns of F (p, rows, own) that belong to a level at some positions (p,): :meth:`weights` undone."""
        own = torch.arange(self.nested[level].own)
        blocks, slot, column = [], self._slots[level][positions], own.expand(len(positions), -1)
        for coarser in range(level, -1, -1):
            rows = torch.arange(self.nested[coarser].own)
            blocks.append(weights[coarser][slot[:, None, None], column[:, None], rows[:, None]])
            if coarser:
                child = slot % self.children[coarser]
                slot = slot // self.children[coarser]
                column = column + (self.nested[coarser - 1].own + child * self._widths[coarser])[:, None]
        return torch.cat(blocks[::-1], 1)

    def arranged(self, embeddings: PatchEmbeddings, level: int, slots: slice = slice(None)) -> Tensor:
        """A level's own channels of embeddings in some of its slots, (slots, n, own), float32; a copy."""
        at = self.positions[level][slots]
        parts = [embeddings.layers[layer].index_select(0, at) for layer in self._own_layers[level]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def squared_norms(
        self, weights: Sequence[Tensor], embeddings: PatchEmbeddings, means: Sequence[Tensor], cells: slice
    ) -> Tensor:
        """‖Fᵀδ‖² at all finest slots of some cells, (cells, finest slots in one, N).

        Parameters
        ----------
        weights : sequence of Tensor
            As :meth:`weights` arranges them.
        embeddings : PatchEmbeddings
        means : sequence of Tensor (slots, 1, own)
            The mean of the Gaussians, :meth:`arranged` for each level.
        cells : slice
        """
        total = inherited = None
        for level, weight in enumerate(weights):
            slots = slice(cells.start * self.inside[level], cells.stop * self.inside[level])
            deviations = self.arranged(embeddings, level, slots).sub_(means[level][slots])
            with all_threads_for(weight[slots].numel()):
                products = deviations @ weight[slots].mT
            own = self.nested[level].own
            count, n, width = self.children[level], products.shape[1], products.shape[2]
            if inherited is not None:
                products.view(-1, count, n, width).add_(inherited.view(-1, n, count, width).transpose(1, 2))
            squares = products[:, :, :own].square().sum(2)
            if total is not None:
                squares = (squares.view(-1, count, n) + total.unsqueeze(1)).flatten(0, 1)
            total, inherited = squares, products[:, :, own:]
        assert total is not None
        return total.view(cells.stop - cells.start, -1, total.shape[1])

    def numbers_of_cell(self, n: int) -> int:
        """How many numbers scoring n images touches at one slot of the first level."""
        own = [level.own for level in self.nested]
        return sum(
            count * (width * rows + 2 * n * (width + rows))
            for count, width, rows in zip(self.inside, self._widths, own, strict=True)
        )


def stack_columns(matrices: Tensor, count: int) -> Tensor:
    """Every ``count`` matrices of (slots, rows, columns) as one, (slots / count, rows, count · columns)."""
    slots, rows, columns = matrices.shape
    return matrices.view(slots // count, count, rows, columns).transpose(1, 2).flatten(2)


def split_columns(matrices: Tensor, count: int) -> Tensor:
    """:func:`stack_columns` undone."""
    cells, rows, columns = matrices.shape
    return matrices.view(cells, rows, count, columns // count).transpose(1, 2).flatten(0, 1)


def _inverse(slots: Tensor, positions: int) -> Tensor:
    """The slot of every position."""
    filled = (slots >= 0).nonzero().flatten()
    return torch.empty(positions, dtype=torch.int64).scatter_(0, slots[filled], filled)
