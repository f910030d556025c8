"""Estimators with fewer parameters than a covariance per patch: diagonal, spherical, tied, pooled."""

from __future__ import annotations

import torch
from torch import Tensor

from padim_zoo.core.cholesky import whitening_factor
from padim_zoo.core.parallel import for_each_block, map_blocks
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.estimators.linear_shrinkage import TINY
from padim_zoo.gaussians.gaussian import DiagonalGaussian, Gaussian, PrimalGaussian
from padim_zoo.gaussians.packed_triangular import Triangles
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.pooled import pooled_moments
from padim_zoo.statistics.samples import Samples, Statistics, divisor, per_patch


class Diagonal(Estimator):
    """Σ = diag(S) + εI: the variance of each channel, divisor n − 1; correlations are ignored."""

    supports_missing_patches = True

    def fit(self, statistics: Statistics) -> Gaussian:
        n, D = statistics.n, statistics.D

        def weights(patches: slice) -> Tensor:
            variance = statistics.squares(patches) / per_patch(divisor(statistics.count(patches)), 2)
            return (self._pool(variance) + self.epsilon).clamp_min(TINY).rsqrt().float()

        (weight,) = map_blocks(lambda patches: (weights(patches),), statistics.P, 16 * n * D)
        return DiagonalGaussian(statistics.mean, weight)

    def _pool(self, variance: Tensor) -> Tensor:
        return variance


class Spherical(Diagonal):
    """Σ = (tr(S)/D + ε)·I: one variance per patch."""

    def _pool(self, variance: Tensor) -> Tensor:
        return variance.mean(1, keepdim=True)


class Tied(Estimator):
    """Σ = mean over patches of S, + εI: a mean per patch, one covariance for all (linear discriminant analysis)."""

    supports_missing_patches = True

    def fit(self, statistics: Statistics) -> Gaussian:
        n, D = statistics.n, statistics.D
        covariance = torch.zeros(D, D, dtype=torch.float64)

        def add(patches: slice, scatter: Tensor) -> None:
            # In the order of the patches, in float64: the cut into blocks is below float32's notice.
            covariance.add_(scatter)

        def pooled(patches: slice) -> Tensor:
            return (statistics.scatter(patches) / per_patch(divisor(statistics.count(patches)), 3)).sum(0)

        for_each_block(pooled, statistics.P, 8 * D * (D + n), add)
        covariance /= statistics.P
        covariance.diagonal().add_(max(self.epsilon, TINY))
        return PrimalGaussian(statistics.mean, Triangles.of(whitening_factor(covariance[None]).float()))


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
