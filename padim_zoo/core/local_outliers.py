"""How much sparser the surroundings of a point are than those of its neighbors (LOF, Breunig et al. 2000)."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_REACH = 1e-10
"""Added to mean distances, as in scikit-learn: equal points have a density too."""


def local_outlier_factors(points: Tensor, k: int) -> Tensor:
    """The local outlier factor of each point of some sets; about 1 in a set of even density.

    Parameters
    ----------
    points : Tensor (p, n, D)
        Sets of n points each.
    k : int
        Neighbors of a point, 1 to n − 1.

    Returns
    -------
    Tensor (p, n), float64
    """
    points = points.double()
    points = points - points.mean(1, keepdim=True)  # products lose digits far from the origin
    norms = points.square().sum(2)
    squared = torch.baddbmm(norms[:, None] + norms[:, :, None], points, points.mT, alpha=-2)
    squared.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest = squared.topk(k, dim=2, largest=False)
    distances, neighbors = nearest.values.clamp_min(0).sqrt(), nearest.indices

    def of_neighbors(values: Tensor) -> Tensor:
        return values.gather(1, neighbors.flatten(1)).view(neighbors.shape)

    reach = torch.maximum(distances, of_neighbors(distances[:, :, -1]))
    density = 1 / (reach.mean(2) + LEAST_REACH)
    factors: Tensor = of_neighbors(density).mean(2) / density
    return factors
