"""Estimators of the form Σ = a·S + b·I, and the one solver that serves them all.

S is the sample covariance with the divisor n − 1. Such an estimator is two numbers per patch, made from a few
sufficient statistics; everything else (forms, blocks, precision) is the solver's.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from padim_zoo.core.cholesky import IllConditionedError, whitening_factor
from padim_zoo.core.errors import InputError
from padim_zoo.core.parallel import map_blocks
from padim_zoo.estimators.estimator import EPSILON, Estimator
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.dual import DualGaussian, dual_factor
from padim_zoo.gaussians.gaussian import Gaussian, PrimalGaussian
from padim_zoo.gaussians.grid_hierarchy import levels, suits_few_images
from padim_zoo.gaussians.nested import PRIMAL_CONDITION, SampledGaussian, fit_nested
from padim_zoo.gaussians.packed_triangular import Triangles, column_blocks
from padim_zoo.statistics.samples import Samples, Statistics, divisor, per_patch

DUAL_CONDITION = 5e3
"""Largest tr(K)/n · tr(K⁻¹), with K the n × n kernel, at which the dual form keeps distances to 1e-4 in float32; beyond
it, it is float64. Rounding of products with samples counts by the root of that: tr(K)/n is their size, and tr(K⁻¹) that
of the factor."""

TINY = 1e-12
"""Least b: what stands in when samples do not vary at all and epsilon is 0."""


@dataclass(frozen=True)
class CovarianceStats:
    """What shrinkage needs to know of p patches.

    Attributes
    ----------
    n : int or Tensor (p,)
        Images, float64 where they differ from patch to patch.
    D : int
        Channels.
    trace : Tensor (p,), float64
        tr(S).
    squared_norm : Tensor (p,), float64
        ‖S‖², the sum of the squared entries of S.
    sum_fourth_powers : Tensor (p,), float64
        Σᵢ ‖xᵢ − x̄‖⁴ over the n samples.
    """

    n: int | Tensor
    D: int
    trace: Tensor
    squared_norm: Tensor
    sum_fourth_powers: Tensor

    @classmethod
    def of(cls, n: int | Tensor, D: int, covariance: Tensor, sum_fourth_powers: Tensor) -> CovarianceStats:
        """Those of S (p, D, D), or of any matrix with the eigenvalues of S and zeros, such as AAᵀ/(n − 1)."""
        trace = covariance.diagonal(dim1=1, dim2=2).sum(1)
        return cls(n, D, trace, covariance.square().sum((1, 2)), sum_fourth_powers)

    @property
    def biased(self) -> float | Tensor:
        """(n − 1)/n, which turns S into the maximum-likelihood covariance that shrinkage formulas are stated for."""
        return (self.n - 1) / self.n


class LinearShrinkage(Estimator):
    """Σ = a·S + (b + ε)·I. Subclasses give a and b."""

    supports_missing_patches = True
    supports_devices = True

    @abstractmethod
    def coefficients(self, spread: CovarianceStats) -> tuple[Tensor, Tensor]:
        """The coefficients a and b of each patch, (p,) float64, without epsilon."""

    def fit(self, statistics: Statistics) -> Gaussian:
        """Fit in the nested form where there is one, else in the dual form of few images or the primal form of many."""
        few_samples = statistics if isinstance(statistics, Samples) and statistics.n <= statistics.D else None
        if (
            self.same_shrinkage_everywhere
            and statistics.mean.subset is None
            and isinstance(statistics.count(slice(0, 1)), int)
        ):
            gaussian = self._fit_nested(statistics, few_samples)
            if gaussian is not None:
                return gaussian
        if few_samples is not None:
            return self._fit_dual(few_samples)
        n, D = statistics.n, statistics.D
        factor, () = _as_precise_as_needed(
            lambda patches, limit: self._primal(statistics, patches, limit),
            PRIMAL_CONDITION,
            statistics.P,
            8 * D * (4 * D + 2 * n),
            statistics.mean.device,
        )
        return PrimalGaussian(statistics.mean, factor)

    def _fit_nested(self, statistics: Statistics, few_samples: Samples | None) -> Gaussian | None:
        nested, ridge = levels(statistics.mean.layout), max(self.epsilon, TINY)
        if few_samples is None:
            return fit_nested(statistics, nested, ridge, PRIMAL_CONDITION) if nested[1:] else None
        return SampledGaussian.fit(few_samples, nested, ridge) if suits_few_images(nested, few_samples.n) else None

    def _fit_dual(self, samples: Samples) -> Gaussian:
        centered = samples.centered()
        whitener, (s, b) = _as_precise_as_needed(
            lambda patches, limit: self._dual(centered, samples.count(patches), patches, limit),
            DUAL_CONDITION,
            samples.P,
            8 * samples.n * (4 * samples.n + samples.D),
            centered.device,
        )
        return DualGaussian(samples.mean, centered, whitener, s, b)

    def regularized(self, spread: CovarianceStats) -> tuple[Tensor, Tensor]:
        """The coefficients a and b + ε of each patch, (p,) float64; the latter is positive."""
        a, b = self.coefficients(spread)
        return a, (b + self.epsilon).clamp_min(TINY)

    def _dual(
        self, centered: PatchEmbeddings, n: int | Tensor, patches: slice, limit: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Samples that are absent at a patch are rows of zeros there, which change no product.
        freedom = divisor(n)
        gram = centered.inner_products(centered, patches, torch.float64)
        # About the mean in float64: fourth powers feel to first order what rounding it to float32 has left.
        with_mean = gram.sum(2) / per_patch(n, 2)
        norms = gram.diagonal(dim1=1, dim2=2) - 2 * with_mean + with_mean.sum(1, keepdim=True) / per_patch(n, 2)
        spread = CovarianceStats.of(n, centered.D, gram / per_patch(freedom, 3), norms.square().sum(1))
        a, b = self.regularized(spread)
        s = a / freedom
        factor = dual_factor(gram, s, b, limit=limit, centered=not isinstance(n, Tensor))
        return factor * s.sqrt()[:, None, None], s, b

    def _primal(self, statistics: Statistics, patches: slice, limit: float) -> tuple[Tensor]:
        n = statistics.count(patches)
        covariance = statistics.scatter(patches) / per_patch(divisor(n), 3)
        spread = CovarianceStats.of(n, statistics.D, covariance, statistics.sum_fourth_powers(patches))
        a, b = self.regularized(spread)
        if float((a * spread.trace / b).max()) > limit:
            raise IllConditionedError
        covariance *= a[:, None, None]
        covariance.diagonal(dim1=1, dim2=2).add_(b[:, None])
        return (whitening_factor(covariance),)


def _as_precise_as_needed(
    solve: Callable[[slice, float], tuple[Tensor, ...]],
    limit: float,
    patches: int,
    bytes_per_patch: int,
    device: torch.device,
) -> tuple[Triangles, tuple[Tensor, ...]]:
    """What ``solve`` gives for all patches, its triangles in float32 if conditions are within ``limit`` everywhere.

    The condition is known only after a good part of the work at each patch. It is within the limit nearly always, so
    that is tried first, and nothing is kept in float64 that may not be needed.
    """

    def solved(limit: float, dtype: torch.dtype) -> tuple[Tensor, ...]:
        def block(part: slice) -> tuple[Tensor, ...]:
            factor, *others = solve(part, limit)
            return *others, *column_blocks(factor.to(dtype))

        return map_blocks(block, patches, bytes_per_patch, device)

    try:
        tensors = solved(limit, torch.float32)
    except IllConditionedError:
        tensors = solved(math.inf, torch.float64)
    others = [tensor for tensor in tensors if tensor.ndim == 1]
    return Triangles(tensors[len(others) :]), tuple(others)


class Full(LinearShrinkage):
    """Σ = S + εI, PaDiM's own (arXiv 2011.08785, equation 1)."""

    same_shrinkage_everywhere = True

    def coefficients(self, spread: CovarianceStats) -> tuple[Tensor, Tensor]:
        return torch.ones_like(spread.trace), torch.zeros_like(spread.trace)


class _TowardsSphere(LinearShrinkage):
    """Σ = (1 − ρ)·Sₙ + ρ·tr(Sₙ)/D·I + εI with Sₙ the maximum-likelihood covariance and ρ chosen per patch."""

    @abstractmethod
    def shrinkage(self, spread: CovarianceStats) -> Tensor:
        """ρ of each patch, (p,), in [0, 1]."""

    def coefficients(self, spread: CovarianceStats) -> tuple[Tensor, Tensor]:
        rho = self.shrinkage(spread)
        return (1 - rho) * spread.biased, rho * spread.biased * spread.trace / spread.D


class Shrinkage(_TowardsSphere):
    """Σ = (1 − ρ)·Sₙ + ρ·tr(Sₙ)/D·I + εI with one ρ for all patches, as scikit-learn's ShrunkCovariance.

    Parameters
    ----------
    shrinkage_intensity : float
        Shrinkage, 0 (none) to 1 (spherical).
    epsilon : float
        Added to the diagonal.

    Raises
    ------
    InputError
        If ``shrinkage_intensity`` is outside [0, 1].
    """

    def __init__(self, shrinkage_intensity: float = 0.1, epsilon: float = EPSILON) -> None:
        super().__init__(epsilon)
        is_number = isinstance(shrinkage_intensity, (int, float)) and not isinstance(shrinkage_intensity, bool)
        if not is_number or not 0 <= shrinkage_intensity <= 1:
            raise InputError(f"shrinkage_intensity is {shrinkage_intensity!r}: expected a number from 0 to 1")
        self.shrinkage_intensity = float(shrinkage_intensity)

    def shrinkage(self, spread: CovarianceStats) -> Tensor:
        return torch.full_like(spread.trace, self.shrinkage_intensity)


class LedoitWolf(_TowardsSphere):
    """ρ by Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004)."""

    def shrinkage(self, spread: CovarianceStats) -> Tensor:
        n, D = spread.n, spread.D
        if D == 1:
            return torch.zeros_like(spread.trace)
        trace = spread.trace * spread.biased
        squared_norm = spread.squared_norm * spread.biased**2
        distance = squared_norm - trace**2 / D  # D·δ², how far S is from the sphere
        error = torch.minimum((spread.sum_fourth_powers / n - squared_norm) / n, distance)  # D·β², how far S is from Σ
        return torch.where(error > 0, error / distance, torch.zeros_like(error))


class OAS(_TowardsSphere):
    """ρ by oracle approximating shrinkage, Chen et al., IEEE Trans. Signal Processing 58 (2010), equation 23.

    As in scikit-learn, the terms in 2/D of the equation are left out.
    """

    def shrinkage(self, spread: CovarianceStats) -> Tensor:
        n, D = spread.n, spread.D
        if D == 1:
            return torch.zeros_like(spread.trace)
        squared_trace = (spread.trace * spread.biased) ** 2
        squared_norm = spread.squared_norm * spread.biased**2
        distance = (n + 1) * (squared_norm - squared_trace / D)
        rho = (squared_norm + squared_trace) / distance
        return torch.where(distance > 0, rho.clamp_max(1), torch.ones_like(rho))
