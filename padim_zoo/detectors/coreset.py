"""Greedy k-center selection: few points that all others are near to (Sener and Savarese 2018, arXiv 1708.00489)."""

from __future__ import annotations

import time
from collections.abc import Callable

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
    n = len(points)
    centered = points - points.mean(0)  # products lose digits far from the origin
    norms = centered.square().sum(1)
    first = int(np.random.default_rng(seed).integers(n))
    selected = [first]
    nearest = (centered - centered[first]).square().sum(1)
    nearest[first] = -1
    with stage("choosing the coreset", count, "patches") as progress:
        while len(selected) < count:
            farthest = torch.topk(nearest, min(ACTIVE + 1, n))
            among, others = farthest.indices[:ACTIVE], farthest.values[ACTIVE:]
            limit = float(others[0]) if len(others) else -1.0
            new = _choose_among(
                centered[among], norms[among], farthest.values[:ACTIVE].clone(), limit, count - len(selected)
            )
            centers = among[new]
            selected += centers.tolist()
            _update(nearest, centered, norms, centers)
            nearest[centers] = -1
            progress.advance(len(new))
            if report is not None:
                report(len(selected), count)
    return torch.tensor(selected)


def coreset_seconds(points: Tensor, n: int, count: int) -> float:
    """About how long the choice of ``count`` centers of ``n`` points takes, by a small one of points like them.

    The time grows with the product of both numbers.
    """
    sample = points[:PROBED_POINTS]
    centers = min(PROBED_CENTERS, len(sample))
    start = time.perf_counter()
    greedy_k_center(sample, centers, 0)
    return (time.perf_counter() - start) * n / len(sample) * count / centers


def _choose_among(points: Tensor, norms: Tensor, nearest: Tensor, limit: float, most: int) -> list[int]:
    """Greedy choices among some points while they are farther than ``limit``; at least one."""
    centers: list[int] = []
    while len(centers) < most:
        value, position = (each.item() for each in nearest.max(0))
        if centers and value <= limit:
            break
        position = int(position)
        centers.append(position)
        distances = torch.addmv(norms, points, points[position], alpha=-2).add_(norms[position]).clamp_min_(0)
        torch.minimum(nearest, distances, out=nearest)
        nearest[position] = -1
    return centers


def _update(nearest: Tensor, points: Tensor, norms: Tensor, centers: Tensor) -> None:
    """Take new centers into account, in place; points that are centers themselves stay below all others."""
    new, offsets = points[centers].T.contiguous(), norms[centers]
    size = max(1, BLOCK_BYTES // (4 * len(centers)))
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        distances = torch.addmm(offsets, points[rows], new, alpha=-2).amin(1).add_(norms[rows]).clamp_min_(0)
        torch.minimum(nearest[rows], distances, out=nearest[rows])
