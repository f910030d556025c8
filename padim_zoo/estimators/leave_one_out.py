"""Squared distances of each normal image by the Gaussians of all others, for about the price of one fit.

With δ the deviation of an image from the mean of all n, c = n/(n − 1), and A the deviations of all images:

    its deviation from the mean of the others   c·δ
    the scatter of the others                   AᵀA − c·δδᵀ

So Σ = s·AᵀA + b·I changes in one direction only. With N = s·AᵀA + b·I and q = δᵀN⁻¹δ (Sherman and Morrison):

    d² = c²·q / (1 − s·c·q)

``full`` has one N for all images. The coefficients of ``shrinkage``, ``ledoit-wolf`` and ``oas`` change with the image
that is left out. Those of all images stand for them, or an eigendecomposition at each patch serves them exactly.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from padim_zoo.core.cholesky import whitening_factor
from padim_zoo.core.parallel import for_each_block, map_blocks
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.estimators.linear_shrinkage import TINY, CovarianceStats, LinearShrinkage
from padim_zoo.estimators.structured import Diagonal, Spherical, Tied
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.dual import dual_factor
from padim_zoo.gaussians.grid_hierarchy import levels
from padim_zoo.gaussians.nested import PRIMAL_CONDITION, fit_nested
from padim_zoo.statistics.samples import Samples

LARGEST_LEVERAGE = 0.9
"""Largest s·c·q at which factors in float32 serve: errors grow tenfold there. Beyond it, all is float64."""

NESTED_CONDITION = PRIMAL_CONDITION / 10
"""Condition at which errors of distances in float32 are about 1e-5, grown tenfold."""


def has_leave_one_out(estimator: Estimator) -> bool:
    """Whether :func:`leave_one_out` knows an estimator."""
    if isinstance(estimator, Tied):
        return estimator.cells is None
    return isinstance(estimator, (LinearShrinkage, Diagonal))


def changes_coefficients(estimator: Estimator) -> bool:
    """Whether the coefficients of an estimator change with the image that is left out."""
    return isinstance(estimator, LinearShrinkage) and not estimator.same_shrinkage_everywhere


def leave_one_out(normal: PatchEmbeddings, estimator: Estimator, *, exact: bool = False) -> Tensor:
    """Squared distance of each image by a fit on all others.

    Parameters
    ----------
    normal : PatchEmbeddings
        Of n ≥ 2 images, all of which count at all patches.
    estimator : Estimator
        One that :func:`has_leave_one_out` accepts.
    exact : bool
        Estimate coefficients without each image too, where they change: an eigendecomposition at each patch.

    Returns
    -------
    Tensor (P, n), float32
    """
    assert normal.n >= 2
    if isinstance(estimator, Tied):
        return _tied(normal, estimator)
    if isinstance(estimator, Diagonal):
        return _diagonal(normal, estimator)
    assert isinstance(estimator, LinearShrinkage)
    exactly = exact and changes_coefficients(estimator)
    n, D = normal.n, normal.D
    reference = normal.mean()

    def one_by_one(patches: Tensor) -> Tensor:
        def block(part: slice) -> tuple[Tensor]:
            rows = (normal.at(patches[part]) - reference.at(patches[part])).double()
            return (_primal(rows - rows.mean(1, keepdim=True), estimator, exactly).float(),)

        (distances,) = map_blocks(block, len(patches), 8 * (3 * n * D + 4 * D * D))
        return distances

    if n * LARGEST_LEVERAGE <= D:  # on average, s·c·q is about D/n
        deviations = normal - reference
        (distances,) = map_blocks(
            lambda patches: (_dual(deviations, patches, estimator, exactly).float(),), normal.P, 8 * n * (3 * D + 4 * n)
        )
        return distances
    nested = _nested(normal, estimator) if estimator.same_shrinkage_everywhere else None
    if nested is None:
        return one_by_one(torch.arange(normal.P))
    distances, close = nested
    if len(close):
        distances[close] = one_by_one(close)
    return distances


def _constants(n: int) -> tuple[float, int]:
    """c, and the divisor that makes a covariance of the scatter of the others."""
    return n / (n - 1), max(n - 2, 1)


def _diagonal(normal: PatchEmbeddings, estimator: Diagonal) -> Tensor:
    """Sums over layers, each at its own positions: a coarse layer has few."""
    n, D = normal.n, normal.D
    c, freedom = _constants(n)
    pools = isinstance(estimator, Spherical)

    def of_layer(layer: Tensor) -> Tensor:
        def block(positions: slice) -> tuple[Tensor]:
            y = layer[positions].double()
            y -= y.mean(1, keepdim=True)
            squares = y.square_()
            if pools:
                return (squares.sum(2),)
            variance = torch.sub(squares.sum(1, keepdim=True), squares, alpha=c).clamp_min_(0).div_(freedom)
            return (squares.div_(variance.add_(estimator.epsilon).clamp_min_(TINY)).sum(2),)

        (sums,) = map_blocks(block, len(layer), 4 * 16 * n * layer.shape[2])
        return sums

    sums_at = normal.summed_over_layers(of_layer)

    def block(patches: slice) -> tuple[Tensor]:
        sums = sums_at(patches)
        if pools:
            variance = (sums.sum(1, keepdim=True) - c * sums).clamp_min(0) / (freedom * D)
            sums /= (variance + estimator.epsilon).clamp_min(TINY)
        return ((c**2 * sums).float(),)

    (distances,) = map_blocks(block, normal.P, 32 * n)
    return distances


def _nested(normal: PatchEmbeddings, estimator: LinearShrinkage) -> tuple[Tensor, Tensor] | None:
    """Distances by a nested fit, and the patches where they are not accurate; None where grids do not nest.

    Patches share its factors. These are float32, and the denominator 1 − s·c·q multiplies their error.
    """
    n = normal.n
    c, freedom = _constants(n)
    grids = levels(normal.layout)
    if normal.subset is not None or not grids[1:]:
        return None
    share = freedom / (n - 1)  # N is this covariance with the divisor n − 1, over the share
    fitted = fit_nested(Samples(normal), grids, max(estimator.epsilon, TINY) * share, NESTED_CONDITION)
    if fitted is None:
        return None
    q = fitted.squared_distances(normal).mul_(share)
    leverage = q * (c / freedom)
    close = (leverage.amax(1) > LARGEST_LEVERAGE).nonzero().flatten()
    return q.mul_(c**2).div_(1 - leverage), close


def _dual(deviations: PatchEmbeddings, patches: slice, estimator: LinearShrinkage, exact: bool) -> Tensor:
    gram = deviations.inner_products(deviations, patches, torch.float64)
    with_mean = gram.mean(2)
    gram = gram - with_mean[:, :, None] - with_mean[:, None] + with_mean.mean(1)[:, None, None]
    n, D = gram.shape[1], deviations.D
    c, freedom = _constants(n)
    norms = gram.diagonal(dim1=1, dim2=2).clone()
    if not exact:
        spread = CovarianceStats.of(n, D, gram / (n - 1), norms.square().sum(1))
        a, b = estimator.regularized(spread)
        s = a / freedom
        # In the direction (1, …, 1) the kernel is b. The factor has a typical eigenvalue there instead.
        typical = s * norms.mean(1) + b
        along = 1 / (n * (b + typical))
        inverse = dual_factor(gram, s, b, centered=True).square().sum(2) - along[:, None]  # without that direction
        inside = 1 - b[:, None] * (inverse + (1 / (n * b))[:, None])
        q = torch.where(s[:, None] > 0, inside / s.clamp_min(1e-300)[:, None], norms / b[:, None])
        distances: Tensor = c * q / (b[:, None] * inverse)
        return distances
    # The direction (1, …, 1) becomes the largest, so that it is known among others in which the samples do not vary:
    # those of copies, and of more images than channels.
    above = 2 * norms.sum(1) + 1
    values, vectors = torch.linalg.eigh(gram + (above / n)[:, None, None])
    values, shares = values[:, :-1].clamp_min(0), vectors[:, :, :-1].square()
    along_scatter = (gram @ gram).diagonal(dim1=1, dim2=2)
    third = (gram @ norms[:, :, None]).squeeze(2)
    a, b = _coefficients_without(estimator, norms, along_scatter, third, gram.square().sum((1, 2)), D)
    s = a / freedom
    weights = shares / (s[:, :, None] * values[:, None] + b[:, :, None])
    distances = c * (weights * values[:, None]).sum(2) / (b * weights.sum(2))
    return distances


def _primal(y: Tensor, estimator: LinearShrinkage, exact: bool) -> Tensor:
    n, D = y.shape[1:]
    c, freedom = _constants(n)
    scatter, norms = y.mT @ y, y.square().sum(2)
    if not exact:
        spread = CovarianceStats.of(n, D, scatter / (n - 1), norms.square().sum(1))
        a, b = estimator.regularized(spread)
        s = (a / freedom)[:, None]
        scatter *= s[:, :, None]
        scatter.diagonal(dim1=1, dim2=2).add_(b[:, None])
        q = (y @ whitening_factor(scatter)).square().sum(2)
    else:
        values, vectors = torch.linalg.eigh(scatter)
        third = (y * norms[:, :, None]).sum(1)
        along_scatter = ((y @ scatter) * y).sum(2)
        a, b = _coefficients_without(
            estimator, norms, along_scatter, (y @ third[:, :, None]).squeeze(2), scatter.square().sum((1, 2)), D
        )
        s = a / freedom
        q = ((y @ vectors).square() / (s[:, :, None] * values[:, None].clamp_min(0) + b[:, :, None])).sum(2)
    return c**2 * q / (1 - s * c * q)


def _coefficients_without(
    estimator: LinearShrinkage, norms: Tensor, along_scatter: Tensor, third: Tensor, squared_norm: Tensor, D: int
) -> tuple[Tensor, Tensor]:
    """a and b + ε of the fits without each image, (p, n).

    Parameters
    ----------
    estimator : LinearShrinkage
    norms : Tensor (p, n)
        ‖δ‖²
    along_scatter : Tensor (p, n)
        δᵀ(AᵀA)δ
    third : Tensor (p, n)
        δᵀΣ‖δ‖²δ over all images.
    squared_norm : Tensor (p,)
        ‖AᵀA‖²
    D : int
    """
    n = norms.shape[1]
    c, freedom = _constants(n)
    total = norms.sum(1, keepdim=True)
    moved = norms / (n - 1) ** 2  # the mean of the others lies δ/(n − 1) from that of all
    sum_fourth_powers = (
        norms.square().sum(1, keepdim=True)
        + 4 * along_scatter / (n - 1) ** 2
        + n * moved.square()
        + 4 * third / (n - 1)
        + 2 * moved * total
        - (c**2 * norms).square()
    )
    of_covariance = squared_norm[:, None] - 2 * c * along_scatter + (c * norms).square()
    spread = CovarianceStats(
        n - 1,
        D,
        ((total - c * norms).clamp_min(0) / freedom).flatten(),
        (of_covariance.clamp_min(0) / freedom**2).flatten(),
        sum_fourth_powers.clamp_min(0).flatten(),
    )
    a, b = estimator.regularized(spread)
    return a.view_as(norms), b.view_as(norms)


def _tied(normal: PatchEmbeddings, estimator: Tied) -> Tensor:
    """One D × D factorization for each image."""
    c, freedom = _constants(normal.n)
    deviations = normal - normal.mean()
    scatter = torch.zeros(normal.D, normal.D, dtype=torch.float64)

    def add(patches: slice, part: Tensor) -> None:
        scatter.add_(part)

    def pooled(patches: slice) -> Tensor:
        y = deviations[patches].double().flatten(0, 1)
        return y.mT @ y

    for_each_block(pooled, normal.P, 16 * normal.D * normal.n, add)
    distances = torch.empty(normal.P, normal.n)
    for image in range(normal.n):
        own = deviations.images(np.array([image]))[slice(0, normal.P)].squeeze(1).double()
        covariance = (scatter - c * own.T @ own) / (freedom * normal.P)
        covariance.diagonal().add_(max(estimator.epsilon, TINY))
        distances[:, image] = c**2 * (own @ whitening_factor(covariance[None])[0]).square().sum(1).float()
    return distances
