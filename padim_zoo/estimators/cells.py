"""Nested factors arranged for scoring: what is multiplied with one deviation lies together, cell by cell.

F's columns that belong to a level act on the channels of this level and of all coarser ones. Taken the other way
round, the channels of one coarse position act on the columns of its own and on those of every finer position inside
it: all of these side by side are one matrix, the *weights* of that position, and

    y = δ · weights = [what its own columns get | what the columns of child 0 get | of child 1 | …]

is passed down and added to what the children get of their own channels. No deviation is repeated for finer positions,
and every number is read once. The numbers are those of the factors, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from padim_zoo.arrays import filled
from padim_zoo.embedding import PatchEmbeddings
from padim_zoo.estimators.nesting import Level

Columns = Callable[[int, Tensor], Tensor]
"""Gives the columns of F that belong to a level, (p, rows, own), at some of its positions (p,), float32."""


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
    positions : list of Tensor (slots,), int64
        For each level, the position in each slot; 0 for those that are filled in.
    children : list of int
        How many slots of a level lie in one slot of the level before; 1 for the first.
    """

    def __init__(self, nested: Sequence[Level]) -> None:
        self.nested = nested
        slots = [torch.arange(len(nested[0].first))]
        self.children = [1]
        for coarse, fine in pairwise(nested):
            parents = coarse.patches[fine.first]
            order = torch.argsort(parents, stable=True)
            counts = torch.bincount(parents, minlength=len(coarse.first))
            ranks = torch.arange(len(order)) - (counts.cumsum(0) - counts)[parents[order]]
            table = torch.full((len(coarse.first) + 1, int(counts.max())), -1)  # the last row is for position −1
            table[parents[order], ranks] = order
            slots.append(table[slots[-1]].flatten())
            self.children.append(table.shape[1])
        self.positions = [slot.clamp_min(0) for slot in slots]
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

    def arrange(self, columns: Columns) -> list[Tensor]:
        """The weights (slots, own, width) of each level."""

        def weights(level: int, at: int, slots: slice) -> Tensor:
            """What the channels of a level have to do with the slots of the level ``at`` and all inside them."""
            found = columns(at, self.positions[at][slots])[:, self._rows[level]]
            absent = self._absent[at]
            if absent is not None:
                found[absent[slots]] = 0
            if at + 1 == len(self.nested):
                return found.contiguous()
            count = self.children[at + 1]
            inside = weights(level, at + 1, slice(slots.start * count, slots.stop * count))
            return torch.cat([found, inside.unflatten(0, (-1, count)).transpose(1, 2).flatten(2)], 2)

        return [
            filled(
                (len(self.positions[level]), self.nested[level].own, self._widths[level]),
                torch.float32,
                lambda slots, level=level: weights(level, level, slots),  # type: ignore[misc]
            )
            for level in range(len(self.nested))
        ]

    def columns(self, weights: Sequence[Tensor], level: int, positions: Tensor) -> Tensor:
        """The columns of F (p, rows, own) that belong to a level at some positions (p,): :meth:`arrange` undone."""
        own = torch.arange(self.nested[level].own)
        found, slot, column = [], self._slots[level][positions], own.expand(len(positions), -1)
        for coarser in range(level, -1, -1):
            rows = torch.arange(self.nested[coarser].own)
            found.append(weights[coarser][slot[:, None, None], rows[:, None], column[:, None]])
            if coarser:
                child = slot % self.children[coarser]
                slot = slot // self.children[coarser]
                column = column + (self.nested[coarser - 1].own + child * self._widths[coarser])[:, None]
        return torch.cat(found[::-1], 1)

    def squared_norms(
        self, weights: Sequence[Tensor], embeddings: PatchEmbeddings, mean: PatchEmbeddings, cells: slice
    ) -> Tensor:
        """‖Fᵀδ‖² at all finest slots of some slots of the first level, (cells, finest slots in one, N)."""
        total = inherited = None
        for level, weight in enumerate(weights):
            inside = prod(self.children[: level + 1])
            slots = slice(cells.start * inside, cells.stop * inside)
            positions = self.positions[level][slots]
            parts = [embeddings.layers[n][positions] - mean.layers[n][positions] for n in self._own_layers[level]]
            found = (parts[0] if len(parts) == 1 else torch.cat(parts, 2)) @ weight[slots]
            count, own = self.children[level], self.nested[level].own
            if inherited is not None:
                found.unflatten(0, (-1, count)).add_(inherited.unflatten(2, (count, -1)).transpose(1, 2))
            squares = found[:, :, :own].square().sum(2)
            if total is not None:
                squares = (squares.unflatten(0, (-1, count)) + total.unsqueeze(1)).flatten(0, 1)
            total, inherited = squares, found[:, :, own:]
        assert total is not None
        return total.unflatten(0, (cells.stop - cells.start, -1))

    def numbers_of_cell(self, n: int) -> int:
        """How many numbers scoring n images touches at one slot of the first level."""
        inside = [prod(self.children[: level + 1]) for level in range(len(self.children))]
        own = [level.own for level in self.nested]
        return sum(
            count * (width * rows + 2 * n * (width + rows))
            for count, width, rows in zip(inside, self._widths, own, strict=True)
        )


def _inverse(slots: Tensor, positions: int) -> Tensor:
    """The slot of every position."""
    known = (slots >= 0).nonzero().flatten()
    return torch.empty(positions, dtype=torch.int64).scatter_(0, slots[known], known)
