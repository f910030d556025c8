"""Estimators with fewer parameters than a covariance per patch: diagonal, spherical, tied."""

from __future__ import annotations

import torch
from torch import Tensor

from padim_zoo.embedding import PatchEmbeddings
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.estimators.gaussian import DiagonalGaussian, Gaussian, PrimalGaussian, whitening_factor
from padim_zoo.estimators.linear_shrinkage import TINY
from padim_zoo.parallel import iterate_blocks, map_blocks


class Diagonal(Estimator):
    """Σ = diag(S) + εI: the variance of each channel, divisor n − 1; correlations are ignored."""

    def fit(self, samples: PatchEmbeddings) -> Gaussian:
        mean = samples.mean()
        centred = samples - mean

        def weights(patches: slice) -> Tensor:
            variance = centred[patches].double().square().sum(1) / max(samples.n - 1, 1)
            return (self._pool(variance) + self.epsilon).clamp_min(TINY).rsqrt().float()

        return DiagonalGaussian(mean, torch.cat(map_blocks(weights, samples.P, 16 * samples.n * samples.D)))

    def _pool(self, variance: Tensor) -> Tensor:
        return variance


class Spherical(Diagonal):
    """Σ = (tr(S)/D + ε)·I: one variance per patch."""

    def _pool(self, variance: Tensor) -> Tensor:
        return variance.mean(1, keepdim=True)


class Tied(Estimator):
    """Σ = mean over patches of S, + εI: a mean per patch, one covariance for all (linear discriminant analysis)."""

    def fit(self, samples: PatchEmbeddings) -> Gaussian:
        mean = samples.mean()
        centred = samples - mean

        def scatter(patches: slice) -> Tensor:
            rows = centred[patches].flatten(0, 1).double()
            return rows.mT @ rows

        # Block sums are added in the order of the patches, in float64: the cut into blocks is below float32's notice.
        covariance = torch.zeros(samples.D, samples.D, dtype=torch.float64)
        for block in iterate_blocks(scatter, samples.P, 16 * samples.n * samples.D):
            covariance += block
        covariance /= samples.P * max(samples.n - 1, 1)
        covariance.diagonal().add_(max(self.epsilon, TINY))
        return PrimalGaussian(mean, whitening_factor(covariance[None]).float())
