"""Estimators with fewer parameters than a covariance per patch: diagonal, spherical, tied, pooled."""

from __future__ import annotations

import torch
from torch import Tensor

from padim_zoo.core.cholesky import whitening_factor
from padim_zoo.core.errors import InputError
from padim_zoo.core.parallel import for_each_block, map_blocks
from padim_zoo.estimators.estimator import EPSILON, Estimator
from padim_zoo.estimators.linear_shrinkage import TINY
from padim_zoo.gaussians.gaussian import DiagonalGaussian, Gaussian, PrimalGaussian, TiedGaussian, patches_of_blocks
from padim_zoo.gaussians.packed_triangular import Triangles, column_blocks
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.pooled import pooled_moments
from padim_zoo.statistics.samples import Samples, Statistics, divisor, per_patch


class Diagonal(Estimator):
    """Σ = diag(S) + εI: the variance of each channel, divisor n − 1; correlations are ignored."""

    supports_missing_patches = True
    supports_devices = True

    def fit(self, statistics: Statistics) -> Gaussian:
        n, D = statistics.n, statistics.D

        def weights(patches: slice) -> Tensor:
            variance = statistics.squares(patches) / per_patch(divisor(statistics.count(patches)), 2)
            return (self._pool(variance) + self.epsilon).clamp_min(TINY).rsqrt().float()

        device = statistics.mean.device
        (weight,) = map_blocks(lambda patches: (weights(patches),), statistics.P, 16 * n * D, device)
        return DiagonalGaussian(statistics.mean, weight)

    def _pool(self, variance: Tensor) -> Tensor:
        return variance


class Spherical(Diagonal):
    """Σ = (tr(S)/D + ε)·I: one variance per patch."""

    def _pool(self, variance: Tensor) -> Tensor:
        return variance.mean(1, keepdim=True)


class Tied(Estimator):
    """Σ = mean over patches of S, + εI: a mean per patch, one covariance for all, or for each block of patches.

    For all patches that is linear discriminant analysis. A block of a large grid shows one part of an object.

    Parameters
    ----------
    epsilon : float
        As of :class:`~padim_zoo.estimators.estimator.Estimator`.
    cells : int, optional
        Patches of a block along either axis; one covariance for all patches by default.

    Raises
    ------
    InputError
        If a parameter is out of range.
    """

    supports_missing_patches = True
    supports_devices = True

    def __init__(self, epsilon: float = EPSILON, cells: int | None = None) -> None:
        super().__init__(epsilon)
        if cells is not None and (isinstance(cells, bool) or not isinstance(cells, int) or cells < 1):
            raise InputError(f"cells is {cells!r}: expected a whole number of patches, e.g. 8")
        self.cells = cells

    def fit(self, statistics: Statistics) -> Gaussian:
        n, D, device = statistics.n, statistics.D, statistics.mean.device

        if self.cells is not None:
            members = patches_of_blocks(statistics.mean, self.cells)

            def factors(blocks: slice) -> tuple[Tensor, ...]:
                own = [patches.unique() for patches in members[blocks]]
                covariances = torch.stack([statistics.pooled(patches) / len(patches) for patches in own])
                return column_blocks(self._factor(covariances))

            parts = map_blocks(factors, len(members), 8 * D * (D + 4 * n * members.shape[1]), device)
            return TiedGaussian(statistics.mean, Triangles(parts), self.cells)

        covariance = torch.zeros(D, D, dtype=torch.float64, device=device)

        def add(patches: slice, scatter: Tensor) -> None:
            # In the order of the patches, in float64: the cut into blocks is below float32's notice.
            covariance.add_(scatter)

        for_each_block(statistics.pooled, statistics.P, 32 * D * n, add, device)
        return PrimalGaussian(statistics.mean, Triangles.of(self._factor(covariance[None] / statistics.P)))

    def _factor(self, covariances: Tensor) -> Tensor:
        """F with F Fᵀ = (Σ + εI)⁻¹, (b, D, D), float32, of covariances in float64."""
        identity = torch.eye(covariances.shape[1], dtype=torch.float64, device=covariances.device)
        ridge = max(self.epsilon, TINY) * identity
        return whitening_factor(covariances + ridge).float()


class Pooled(Estimator):
    """One mean and one covariance for all patches: Σ = S of all of them + εI, wherever a part lies."""

    def fit(self, statistics: Statistics) -> Gaussian:
        assert isinstance(statistics, (Samples, Moments))
        moments = pooled_moments(statistics)
        covariance = moments.scatter(slice(0, 1)) / divisor(moments.n)
        covariance[0].diagonal().add_(max(self.epsilon, TINY))
        (mean,) = moments.mean[slice(0, 1)]
        everywhere = statistics.mean.like_patches(mean.expand(statistics.P, -1))
        return PrimalGaussian(everywhere, Triangles.of(whitening_factor(covariance).float()))
