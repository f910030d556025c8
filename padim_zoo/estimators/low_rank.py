"""An approximation for low latency: the leading directions of each covariance, the rest isotropic."""

from __future__ import annotations

import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.parallel import map_blocks
from padim_zoo.estimators.estimator import EPSILON, Estimator
from padim_zoo.estimators.linear_shrinkage import PRIMAL_CONDITION, TINY
from padim_zoo.gaussians.gaussian import Gaussian, LowRankGaussian
from padim_zoo.statistics.statistics import Statistics, divisor, per_patch


class LowRank(Estimator):
    """Σ = V Λ Vᵀ + σ²(I − V Vᵀ) + εI with the k leading eigenpairs of S, σ² the mean of its other eigenvalues.

    Probabilistic principal component analysis (Tipping and Bishop 1999, equations 7 and 8) at every patch. It is an
    approximation of ``full``, equal to it at k = D, and reads k/D of its numbers to score an image.

    Parameters
    ----------
    k : int
        Directions kept; all when there are fewer channels.
    epsilon : float
        Added to the diagonal.

    Raises
    ------
    InputError
        If ``k`` is not a positive integer.
    """

    supports_missing_patches = True

    def __init__(self, k: int = 20, epsilon: float = EPSILON) -> None:
        super().__init__(epsilon)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"the rank k is {k!r}: expected a positive integer, e.g. low-rank(20)")
        self.k = k

    def fit(self, statistics: Statistics) -> Gaussian:
        n, D = statistics.n, statistics.D
        k = min(self.k, D)

        def block(patches: slice) -> tuple[Tensor, Tensor, Tensor]:
            freedom = per_patch(divisor(statistics.count(patches)), 3)
            values, vectors = torch.linalg.eigh(statistics.scatter(patches) / freedom)
            values = values.clamp_min(0)
            rest = values[:, : D - k].mean(1) if k < D else torch.zeros(len(values), dtype=values.dtype)
            b = (rest + self.epsilon).clamp_min(TINY)
            leading = (values[:, D - k :] + self.epsilon).clamp_min(TINY)
            return vectors[:, :, D - k :], leading.rsqrt(), b

        directions, weight, b = map_blocks(block, statistics.P, 8 * D * (4 * D + 2 * n))
        if float((weight.square().amax(1) / weight.square().amin(1)).max()) <= PRIMAL_CONDITION:
            directions, weight, b = directions.float(), weight.float(), b.float()
        return LowRankGaussian(statistics.mean, directions, weight, b)
