"""Greedy k-center selection: few points that all others are near to (Sener and Savarese 2018, arXiv 1708.00489)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

ACTIVE = 4096
"""Points among which centres are chosen before the others are looked at again; changes speed, not the choice."""

BLOCK_BYTES = 16 * 2**20
"""Distances of other points that are in memory together."""


def greedy_k_center(points: Tensor, count: int, seed: int, report: Callable[[int, int], None] | None = None) -> Tensor:
    """Choose points one after the other, each the farthest from those chosen before.

    Literally, every choice compares the new centre with all points, which reads them all from memory. Here it is
    compared with the farthest :data:`ACTIVE` points only. Distances to the nearest centre never grow, so while the
    farthest of these is farther than all others were, it is the farthest of all. When it is not, the others are brought
    up to date with all new centres in one matrix product. The choice is the same, up to rounding where two points are
    equally far.

    Parameters
    ----------
    points : Tensor (n, d), float32
    count : int
        Centres, 1 to n.
    seed : int
        Draws the first one.
    report : callable, optional
        Told the number of centres chosen so far, and ``count``, now and then.

    Returns
    -------
    Tensor (count,), int64
        Indices of the centres in the order of their choice.
    """
    n = len(points)
    centred = points - points.mean(0)  # products lose digits far from the origin
    norms = centred.square().sum(1)
    first = int(np.random.default_rng(seed).integers(n))
    chosen = [first]
    nearest = (centred - centred[first]).square().sum(1)
    nearest[first] = -1
    while len(chosen) < count:
        farthest = torch.topk(nearest, min(ACTIVE + 1, n))
        among, others = farthest.indices[:ACTIVE], farthest.values[ACTIVE:]
        limit = float(others[0]) if len(others) else -1.0
        new = _choose_among(centred[among], norms[among], farthest.values[:ACTIVE].clone(), limit, count - len(chosen))
        centres = among[new]
        chosen += centres.tolist()
        _update(nearest, centred, norms, centres)
        nearest[centres] = -1
        if report is not None:
            report(len(chosen), count)
    return torch.tensor(chosen)


def _choose_among(points: Tensor, norms: Tensor, nearest: Tensor, limit: float, most: int) -> list[int]:
    """Greedy choices among some points while they are farther than ``limit``; at least one."""
    chosen: list[int] = []
    while len(chosen) < most:
        value, position = (found.item() for found in nearest.max(0))
        if chosen and value <= limit:
            break
        position = int(position)
        chosen.append(position)
        distances = torch.addmv(norms, points, points[position], alpha=-2).add_(norms[position]).clamp_min_(0)
        torch.minimum(nearest, distances, out=nearest)
        nearest[position] = -1
    return chosen


def _update(nearest: Tensor, points: Tensor, norms: Tensor, centres: Tensor) -> None:
    """Take new centres into account, in place; points that are centres themselves stay below all others."""
    new, offsets = points[centres].T.contiguous(), norms[centres]
    size = max(1, BLOCK_BYTES // (4 * len(centres)))
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        distances = torch.addmm(offsets, points[rows], new, alpha=-2).amin(1).add_(norms[rows]).clamp_min_(0)
        torch.minimum(nearest[rows], distances, out=nearest[rows])
