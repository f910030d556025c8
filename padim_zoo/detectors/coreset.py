"""Greedy k-center selection: few points that all others are near to (Sener and Savarese 2018, arXiv 1708.00489)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.progress import stage

ACTIVE = 4096
"""Points among which centers are chosen before the others are looked at again; changes speed, not the choice."""

PROBED_POINTS, PROBED_CENTERS = 50_000, 512
"""The choice by which the time of a larger one is told."""

BLOCK_BYTES = 16 * 2**20
"""Distances of other points that are in memory together."""

LITERAL_PAIRS = 2 * 10**10
"""Points times centers up to which the choice is one of all points; of more, it is made block by block."""

LITERAL_POINTS = 2**20
"""Points up to which the same holds: a choice of all has them in memory twice."""

BLOCK_POINTS = 2**15
"""Points of a block, whose choice knows nothing of other blocks."""

CANDIDATES = 2
"""Centers that a block may have, as a multiple of its share of all."""


def greedy_k_center(points: Tensor, count: int, seed: int, report: Callable[[int, int], None] | None = None) -> Tensor:
    """Choose points one after the other, each the farthest from those chosen before.

    Literally, every choice compares the new center with all points, which reads them all from memory. Here it is
    compared with the farthest :data:`ACTIVE` points only. Distances to the nearest center never grow, so while the
    farthest of these is farther than all others were, it is the farthest of all. When it is not, the others are brought
    up to date with all new centers in one matrix product. The choice is the same, up to rounding where two points are
    equally far.

    Parameters
    ----------
    points : Tensor (n, d), float32
    count : int
        Centers, 1 to n.
    seed : int
        Draws the first one.
    report : callable, optional
        Told the number of centers chosen so far, and ``count``, now and then.

    Returns
    -------
    Tensor (count,), int64
        Indices of the centers in the order of their choice.
    """
    first = int(np.random.default_rng(seed).integers(len(points)))
    with stage("choosing the coreset", count, "patches") as progress:
        done = 1
        for new in (choice := _Choice(points, first)).until(count):
            done += new
            progress.advance(new)
            if report is not None:
                report(done, count)
    return torch.tensor(choice.centers)


def k_center_in_blocks(
    points: Callable[[slice], Tensor], n: int, count: int, seed: int, report: Callable[[int, int], None] | None = None
) -> Tensor:
    """Choose points in time and memory that grow with their number alone, and not with its square.

    Each block of neighboring points makes the greedy choice by itself, of more centers than are its share. How far a
    center was from those before it never grows along a choice. So the ``count`` farthest of all blocks are the first
    ones of each, and there is one distance to which every block is covered: blocks that vary more get more centers.

    Parameters
    ----------
    points : callable
        The points (rows, d), float32, of a slice of all; asked for once each.
    n, count : int
        Points, and centers, 1 to n.
    seed : int
        Draws the first center of each block.
    report : callable, optional
        Told the number of candidates so far, and of how many.

    Returns
    -------
    Tensor (count,), int64
        Indices of the centers, ascending.
    """
    rng = np.random.default_rng(seed)
    blocks = _blocks(n, count)
    shares = [min(rows.stop - rows.start, -(-CANDIDATES * count * (rows.stop - rows.start) // n)) for rows in blocks]
    centers, distances, total = [], [], sum(shares)
    with stage("choosing the coreset", total, "patches") as progress:
        for rows, share in zip(blocks, shares, strict=True):
            choice = _Choice(points(rows), int(rng.integers(rows.stop - rows.start)))
            for new in choice.until(share):
                progress.advance(new)
            centers.append(rows.start + torch.tensor(choice.centers))
            distances.append(torch.tensor(choice.distances))
            if report is not None:
                report(sum(map(len, centers)), total)
    farthest = torch.cat(distances).argsort(descending=True, stable=True)[:count]
    return torch.cat(centers)[farthest].sort().values


def is_literal(n: int, count: int) -> bool:
    """Whether so many centers of so many points are chosen among all at once, and not block by block."""
    return n <= LITERAL_POINTS and n * count <= LITERAL_PAIRS


def compared_pairs(n: int, count: int) -> int:
    """Points times centers that are compared: of all points, or of each block its own."""
    return n * count if is_literal(n, count) else CANDIDATES * n * count // len(_blocks(n, count))


def coreset_seconds(points: Tensor, pairs: int) -> float:
    """About how long a choice takes that compares so many pairs, by a small one of points like them."""
    sample = points[:PROBED_POINTS]
    centers = min(PROBED_CENTERS, len(sample))
    start = time.perf_counter()
    greedy_k_center(sample, centers, 0)
    return (time.perf_counter() - start) * pairs / (len(sample) * centers)


def _blocks(n: int, count: int) -> list[slice]:
    """Blocks of about equal size, of which each can have a center."""
    number = max(1, min(-(-n // BLOCK_POINTS), count))
    edges = np.linspace(0, n, number + 1).round().astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


class _Choice:
    """A greedy choice of some points.

    Attributes
    ----------
    centers : list of int
    distances : list of float
        Squared, of each center from those before it; infinite for the first.
    """

    def __init__(self, points: Tensor, first: int) -> None:
        self._points = points - points.mean(0)  # products lose digits far from the origin
        self._norms = self._points.square().sum(1)
        self._nearest = (self._points - self._points[first]).square().sum(1)
        self._nearest[first] = -1
        self.centers, self.distances = [first], [float("inf")]

    def until(self, count: int) -> Iterator[int]:
        """Choose up to so many centers; yields how many are new, now and then."""
        while len(self.centers) < count:
            farthest = torch.topk(self._nearest, min(ACTIVE + 1, len(self._nearest)))
            among, others = farthest.indices[:ACTIVE], farthest.values[ACTIVE:]
            limit = float(others[0]) if len(others) else -1.0
            nearest = farthest.values[:ACTIVE].clone()
            most = count - len(self.centers)
            new, distances = _choose_among(self._points[among], self._norms[among], nearest, limit, most)
            centers = among[new]
            self.centers += centers.tolist()
            self.distances += distances
            _update(self._nearest, self._points, self._norms, centers)
            self._nearest[centers] = -1
            yield len(new)


def _choose_among(
    points: Tensor, norms: Tensor, nearest: Tensor, limit: float, most: int
) -> tuple[list[int], list[float]]:
    """Greedy choices among some points while they are farther than ``limit``, and how far; at least one."""
    centers: list[int] = []
    chosen_distances: list[float] = []
    while len(centers) < most:
        value, position = (each.item() for each in nearest.max(0))
        if centers and value <= limit:
            break
        position = int(position)
        centers.append(position)
        chosen_distances.append(float(value))
        distances = torch.addmv(norms, points, points[position], alpha=-2).add_(norms[position]).clamp_min_(0)
        torch.minimum(nearest, distances, out=nearest)
        nearest[position] = -1
    return centers, chosen_distances


def _update(nearest: Tensor, points: Tensor, norms: Tensor, centers: Tensor) -> None:
    """Take new centers into account, in place; points that are centers themselves stay below all others."""
    new, offsets = points[centers].T.contiguous(), norms[centers]
    size = max(1, BLOCK_BYTES // (4 * len(centers)))
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        distances = torch.addmm(offsets, points[rows], new, alpha=-2).amin(1).add_(norms[rows]).clamp_min_(0)
        torch.minimum(nearest[rows], distances, out=nearest[rows])
