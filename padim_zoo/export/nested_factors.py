"""Factors for a network, of Gaussians that are not in the nested form though all patches are treated alike.

``full`` has that form already where there are many images (:mod:`padim_zoo.gaussians.nested`). With few, in the dual
form, it can be fitted to the samples that this holds. Models of other programs (:mod:`padim_zoo.importers`) come with a
matrix for each patch: whether patches that share a position agree is looked at and not taken for granted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from padim_zoo.core.cholesky import whitening_factor
from padim_zoo.core.parallel import map_blocks
from padim_zoo.gaussians.dual import DualGaussian
from padim_zoo.gaussians.gaussian import PrimalGaussian
from padim_zoo.gaussians.grid_hierarchy import Level, levels
from padim_zoo.gaussians.nested import PRIMAL_CONDITION, fit_nested
from padim_zoo.statistics.samples import Samples

AGREEMENT = 1e-4
"""Largest difference, relative to the distances it makes, of covariances that are taken to be the same."""
ROUNDING = 1e-9
"""Largest relative difference of numbers in float64 that are the same."""
AGREEMENT_HALF = 4e-3
"""The same of a model whose factors are in 16 bit, which are themselves that far from what was fitted."""


def factors_of_dual(gaussian: DualGaussian) -> Sequence[Tensor] | None:
    """The columns of F of each level, or None where Σ is not S + b·I with one b, or ill-conditioned."""
    s, b, n = gaussian.s, gaussian.b, gaussian.samples.n
    same_everywhere = torch.cat([s * (n - 1) - 1, b / b[0] - 1]).abs().max() < ROUNDING
    if n == 1 or not same_everywhere or gaussian.mean.subset is not None:
        return None
    fitted = fit_nested(Samples(gaussian.samples), levels(gaussian.mean.layout), float(b[0]), PRIMAL_CONDITION)
    return None if fitted is None else fitted.factors


def factors_of_primal(gaussian: PrimalGaussian) -> Sequence[Tensor] | None:
    """The columns of F of each level, or None where patches that share a position differ in their covariance."""
    factors = []
    for level in levels(gaussian.mean.layout):
        factor = _level_factor(gaussian, level)
        if factor is None:
            return None
        factors.append(factor)
    return factors


def _level_factor(gaussian: PrimalGaussian, level: Level) -> Tensor | None:
    limit = AGREEMENT_HALF if gaussian.half_rounded else AGREEMENT
    order = level.patches.argsort(stable=True)
    counts = level.patches.bincount()
    ends = counts.cumsum(0)

    def block(positions: slice) -> tuple[Tensor, Tensor]:
        stop = min(positions.stop, len(counts))
        patches = order[int(ends[positions.start] - counts[positions.start]) : int(ends[stop - 1])]
        position = level.patches[patches] - positions.start
        own = _covariances(gaussian, patches, level.dims)
        mean = torch.zeros(stop - positions.start, *own.shape[1:], dtype=own.dtype).index_add_(0, position, own)
        mean /= counts[positions.start : stop, None, None]
        factor = whitening_factor(mean)  # F with F Fᵀ = Σ⁻¹: Fᵀ is the inverse of the Cholesky factor
        each = factor[position]
        whitened = each.mT @ own @ each
        whitened.diagonal(dim1=1, dim2=2).sub_(1)
        worst = torch.zeros(len(mean), dtype=own.dtype).scatter_reduce_(
            0, position, whitened.abs().amax((1, 2)), "amax"
        )
        return factor[:, :, -level.own :].float(), worst

    size = len(level.dims)
    factor, worst = map_blocks(block, len(counts), 8 * int(counts.max()) * 4 * max(size, gaussian.mean.D) ** 2)
    return factor if float(worst.max()) <= limit else None


def _covariances(gaussian: PrimalGaussian, patches: Tensor, dims: Tensor) -> Tensor:
    """Σ of some dimensions at some patches, float64."""
    factor = gaussian.factor[patches if len(gaussian.factor) > 1 else patches * 0].double()
    identity = torch.eye(factor.shape[1], dtype=factor.dtype).expand_as(factor)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=True)[:, :, dims]
    return inverse.mT @ inverse


def plain_factor(gaussian: DualGaussian) -> Tensor:
    """F of the primal form (P, D, D), float32."""
    samples, D = gaussian.samples, gaussian.mean.D

    def block(part: slice) -> tuple[Tensor]:
        centered = samples.at(torch.arange(gaussian.mean.P)[part]).double()
        covariance = (centered.mT @ centered) * gaussian.s[part][:, None, None]
        covariance.diagonal(dim1=1, dim2=2).add_(gaussian.b[part][:, None])
        return (whitening_factor(covariance).float(),)

    (factor,) = map_blocks(block, gaussian.mean.P, 32 * D**2)
    return factor
