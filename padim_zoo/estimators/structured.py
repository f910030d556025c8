"""Estimators with fewer parameters than a covariance per patch: diagonal, spherical, tied."""

from __future__ import annotations

import torch
from torch import Tensor

from padim_zoo.embedding import PatchEmbeddings
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.estimators.gaussian import DiagonalGaussian, Gaussian, PrimalGaussian, whitening_factor
from padim_zoo.estimators.linear_shrinkage import TINY
from padim_zoo.parallel import iterate_blocks, map_blocks


def _centred(samples: PatchEmbeddings, patches: slice) -> tuple[Tensor, Tensor]:
    mean = samples.mean(patches)
    return mean, (samples[patches] - mean.unsqueeze(1)).double()


class Diagonal(Estimator):
    """Σ = diag(S) + εI: the variance of each channel, divisor n − 1; correlations are ignored."""

    def fit(self, samples: PatchEmbeddings) -> Gaussian:
        def block(patches: slice) -> tuple[Tensor, Tensor]:
            mean, centred = _centred(samples, patches)
            variance = self._pool(centred.square().sum(1) / max(samples.n - 1, 1)) + self.epsilon
            return mean, variance.clamp_min(TINY).rsqrt().float()

        means, weights = zip(*map_blocks(block, samples.P, 24 * samples.n * samples.D), strict=True)
        return DiagonalGaussian(torch.cat(means), torch.cat(weights))

    def _pool(self, variance: Tensor) -> Tensor:
        return variance


class Spherical(Diagonal):
    """Σ = (tr(S)/D + ε)·I: one variance per patch."""

    def _pool(self, variance: Tensor) -> Tensor:
        return variance.mean(1, keepdim=True)


class Tied(Estimator):
    """Σ = mean over patches of S, + εI: a mean per patch, one covariance for all (linear discriminant analysis)."""

    def fit(self, samples: PatchEmbeddings) -> Gaussian:
        def block(patches: slice) -> tuple[Tensor, Tensor]:
            mean, centred = _centred(samples, patches)
            rows = centred.flatten(0, 1)
            return mean, rows.mT @ rows

        means = []
        total = torch.zeros(samples.D, samples.D, dtype=torch.float64)
        for mean, scatter in iterate_blocks(block, samples.P, 24 * samples.n * samples.D):
            means.append(mean)
            total += scatter
        covariance = total / (samples.P * max(samples.n - 1, 1))
        covariance.diagonal().add_(max(self.epsilon, TINY))
        return PrimalGaussian(torch.cat(means), whitening_factor(covariance[None]).float())
