"""Estimators of the form Σ = a·S + b·I, and the one solver that serves them all.

S is the sample covariance with the divisor n − 1. Such an estimator is two numbers per patch, made from a few
sufficient statistics; everything else (forms, blocks, precision) is the solver's.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from padim_zoo.embedding import PatchEmbeddings
from padim_zoo.errors import InputError
from padim_zoo.estimators.estimator import EPSILON, Estimator
from padim_zoo.estimators.gaussian import DualGaussian, Gaussian, PrimalGaussian, whitening_factor
from padim_zoo.estimators.statistics import Samples, Statistics
from padim_zoo.parallel import map_blocks

SAFE_CONDITION = 1e5
"""Largest tr(a·S)/b at which float32 may take the difference of the dual form; beyond it the primal form is used."""

FLOAT32_CONDITION = 1e7
"""Largest tr(a·S)/b at which a float32 whitening factor keeps distances to 1e-4; beyond it the factor is float64."""

TINY = 1e-12
"""Least b: what stands in when samples do not vary at all and epsilon is 0."""


@dataclass(frozen=True)
class Spread:
    """What shrinkage needs to know of p patches.

    Attributes
    ----------
    n, D : int
        Images and channels.
    trace : Tensor (p,), float64
        tr(S).
    squared_norm : Tensor (p,), float64
        ‖S‖², the sum of the squared entries of S.
    fourth : Tensor (p,), float64
        Σᵢ ‖xᵢ − x̄‖⁴ over the n samples.
    """

    n: int
    D: int
    trace: Tensor
    squared_norm: Tensor
    fourth: Tensor

    @property
    def biased(self) -> float:
        """(n − 1)/n, which turns S into the maximum-likelihood covariance that shrinkage formulas are stated for."""
        return (self.n - 1) / self.n


class LinearShrinkage(Estimator):
    """Σ = a·S + (b + ε)·I. Subclasses give a and b."""

    @abstractmethod
    def coefficients(self, spread: Spread) -> tuple[Tensor, Tensor]:
        """The coefficients a and b of each patch, (p,) float64, without epsilon."""

    def fit(self, statistics: Statistics) -> Gaussian:
        """Fit in the dual form when there are fewer images than channels and float32 bears it, else in the primal."""
        if isinstance(statistics, Samples) and statistics.n <= statistics.D:
            dual = self._fit_dual(statistics)
            if dual is not None:
                return dual
        n, D = statistics.n, statistics.D
        blocks = map_blocks(lambda patches: self._primal(statistics, patches), statistics.P, 8 * D * (4 * D + 2 * n))
        factors, conditions = zip(*blocks, strict=True)
        dtype = torch.float32 if max(conditions) <= FLOAT32_CONDITION else torch.float64
        return PrimalGaussian(statistics.mean, torch.cat([factor.to(dtype) for factor in factors]))

    def _fit_dual(self, samples: Samples) -> Gaussian | None:
        """The dual form, or None where float32 does not bear it."""
        centred = samples.embeddings - samples.mean
        n = samples.n
        blocks = map_blocks(lambda patches: self._dual(centred, patches), samples.P, 8 * n * (4 * n + samples.D))
        whiteners, s, b, conditions = zip(*blocks, strict=True)
        if max(conditions) > SAFE_CONDITION:
            return None
        return DualGaussian(samples.mean, centred, torch.cat(whiteners), torch.cat(s), torch.cat(b))

    def _regularised(self, spread: Spread) -> tuple[Tensor, Tensor, float]:
        a, b = self.coefficients(spread)
        b = (b + self.epsilon).clamp_min(TINY)
        return a, b, float((a * spread.trace / b).max())

    def _dual(self, centred: PatchEmbeddings, patches: slice) -> tuple[Tensor, Tensor, Tensor, float]:
        divisor = max(centred.n - 1, 1)
        kernel = centred.inner_products(centred, patches, torch.float64) / divisor
        squares = kernel.diagonal(dim1=1, dim2=2)
        a, b, condition = self._regularised(
            Spread(
                centred.n,
                centred.D,
                trace=squares.sum(1),
                squared_norm=kernel.square().sum((1, 2)),
                fourth=(squares * divisor).square().sum(1),
            )
        )
        if condition > SAFE_CONDITION:
            return kernel[:, :0], a, b, condition
        kernel *= a[:, None, None]
        kernel.diagonal(dim1=1, dim2=2).add_(b[:, None])
        s = a / divisor
        return (whitening_factor(kernel) * s.sqrt()[:, None, None]).float(), s, b, condition

    def _primal(self, statistics: Statistics, patches: slice) -> tuple[Tensor, float]:
        covariance = statistics.scatter(patches) / max(statistics.n - 1, 1)
        a, b, condition = self._regularised(
            Spread(
                statistics.n,
                statistics.D,
                trace=covariance.diagonal(dim1=1, dim2=2).sum(1),
                squared_norm=covariance.square().sum((1, 2)),
                fourth=statistics.fourth(patches),
            )
        )
        covariance *= a[:, None, None]
        covariance.diagonal(dim1=1, dim2=2).add_(b[:, None])
        factor = whitening_factor(covariance)
        return factor if condition > FLOAT32_CONDITION else factor.float(), condition


class Full(LinearShrinkage):
    """Σ = S + εI, PaDiM's own (arXiv 2011.08785, equation 1)."""

    def coefficients(self, spread: Spread) -> tuple[Tensor, Tensor]:
        return torch.ones_like(spread.trace), torch.zeros_like(spread.trace)


class _TowardsSphere(LinearShrinkage):
    """Σ = (1 − ρ)·Sₙ + ρ·tr(Sₙ)/D·I + εI with Sₙ the maximum-likelihood covariance and ρ chosen per patch."""

    @abstractmethod
    def shrinkage(self, spread: Spread) -> Tensor:
        """ρ of each patch, (p,), in [0, 1]."""

    def coefficients(self, spread: Spread) -> tuple[Tensor, Tensor]:
        rho = self.shrinkage(spread)
        return (1 - rho) * spread.biased, rho * spread.biased * spread.trace / spread.D


class Shrinkage(_TowardsSphere):
    """Σ = (1 − ρ)·Sₙ + ρ·tr(Sₙ)/D·I + εI with one ρ for all patches, as scikit-learn's ShrunkCovariance.

    Parameters
    ----------
    rho : float
        Shrinkage, 0 (none) to 1 (spherical).
    epsilon : float
        Added to the diagonal.

    Raises
    ------
    InputError
        If ``rho`` is outside [0, 1].
    """

    def __init__(self, rho: float = 0.1, epsilon: float = EPSILON) -> None:
        super().__init__(epsilon)
        if isinstance(rho, bool) or not isinstance(rho, (int, float)) or not 0 <= rho <= 1:
            raise InputError(f"the shrinkage rho is {rho!r}: expected a number from 0 to 1, e.g. shrinkage(0.1)")
        self.rho = float(rho)

    def shrinkage(self, spread: Spread) -> Tensor:
        return torch.full_like(spread.trace, self.rho)


class LedoitWolf(_TowardsSphere):
    """ρ by Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004)."""

    def shrinkage(self, spread: Spread) -> Tensor:
        n, D = spread.n, spread.D
        if D == 1:
            return torch.zeros_like(spread.trace)
        trace = spread.trace * spread.biased
        squared_norm = spread.squared_norm * spread.biased**2
        distance = squared_norm - trace**2 / D  # D·δ², how far S is from the sphere
        error = torch.minimum((spread.fourth / n - squared_norm) / n, distance)  # D·β², how far S is from Σ
        return torch.where(error > 0, error / distance, torch.zeros_like(error))


class OAS(_TowardsSphere):
    """ρ by oracle approximating shrinkage, Chen et al., IEEE Trans. Signal Processing 58 (2010), equation 23.

    As in scikit-learn, the terms in 2/D of the equation are left out.
    """

    def shrinkage(self, spread: Spread) -> Tensor:
        n, D = spread.n, spread.D
        if D == 1:
            return torch.zeros_like(spread.trace)
        squared_trace = (spread.trace * spread.biased) ** 2
        squared_norm = spread.squared_norm * spread.biased**2
        distance = (n + 1) * (squared_norm - squared_trace / D)
        rho = (squared_norm + squared_trace) / distance
        return torch.where(distance > 0, rho.clamp_max(1), torch.ones_like(rho))
