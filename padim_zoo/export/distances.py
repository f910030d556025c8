"""Squared Mahalanobis distances as modules of plain tensor operations, in float32 and of few numbers.

Runtimes have no fast float64 and no branches on values, and read every factor from memory for every image. So forms
that subtract large numbers are rewritten, and factors are made small, both exactly:

* The dual form's (‖δ‖² − ‖TᵀAδ‖²)/b cancels near the normal images. It is the minimum over c of ‖δ − Aᵀc‖²/b + ‖c‖²/s,
  at c = TTᵀAδ, in which nothing cancels and an error of c counts by its square.
* Channels of a coarse layer are the same at all patches that share one of its positions, and so is their covariance,
  where an estimator treats all patches alike. With the coarse channels first, a Cholesky factor's rows of a layer
  depend on this and coarser layers only, and are stored once per position of the layer: :class:`NestedDistances`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from padim_zoo.core.errors import InputError
from padim_zoo.core.parallel import map_blocks
from padim_zoo.export.nested_factors import factors_of_dual, factors_of_primal, plain_factor
from padim_zoo.features.features import nearest_positions
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.dual import DualGaussian
from padim_zoo.gaussians.gaussian import DiagonalGaussian, Gaussian, PrimalGaussian, TiedGaussian
from padim_zoo.gaussians.grid_hierarchy import Level, factor_numbers, levels
from padim_zoo.gaussians.nested import NestedGaussian


class DistancesFromMean(nn.Module):
    """Squared distances (P, N) of embeddings, given as (positions, N, channels) of each layer.

    The modules of the forms take deviations from the mean, given in the same way.
    """

    def __init__(self, gaussian: Gaussian) -> None:
        super().__init__()
        for number, layer in enumerate(gaussian.mean.layers):
            self.register_buffer(f"mean{number}", layer.float())
        self.form = distances_of(gaussian)

    def forward(self, layers: list[Tensor]) -> Tensor:
        """At all patches."""
        deviations = [layer - getattr(self, f"mean{number}") for number, layer in enumerate(layers)]
        squared: Tensor = self.form(deviations)
        return squared


class DiagonalDistances(nn.Module):
    """‖w∘δ‖²."""

    weight: Tensor

    def __init__(self, gaussian: DiagonalGaussian) -> None:
        super().__init__()
        self.gather = Gather(gaussian.mean)
        self.register_buffer("weight", gaussian.weight.float().unsqueeze(1))

    def forward(self, deviations: list[Tensor]) -> Tensor:
        """At all patches."""
        return _squared_norm(self.gather(deviations) * self.weight)


class FactorDistances(nn.Module):
    """‖Fᵀδ‖² with F upper triangular; the columns in two parts, so that a quarter of F, which is zero, is left out.

    More parts read less, but runtimes lose more by small products of many images than they gain at one.
    """

    left: Tensor
    right: Tensor

    def __init__(self, mean: PatchEmbeddings, factor: Tensor) -> None:
        super().__init__()
        self.gather = Gather(mean)
        self.cut = (factor.shape[1] + 1) // 2
        self.register_buffer("left", factor[:, : self.cut, : self.cut].float().contiguous())
        self.register_buffer("right", factor[:, :, self.cut :].float().contiguous())

    def forward(self, deviations: list[Tensor]) -> Tensor:
        """At all patches."""
        delta = self.gather(deviations)
        return _squared_norm(delta[:, :, : self.cut] @ self.left) + _squared_norm(delta @ self.right)


class TiedDistances(nn.Module):
    """‖Fᵀδ‖² with one F for all patches of a block."""

    factor: Tensor
    members: Tensor
    places: Tensor

    def __init__(self, gaussian: TiedGaussian) -> None:
        super().__init__()
        self.gather = Gather(gaussian.mean)
        self.blocks, self.D = len(gaussian.members), gaussian.mean.D
        members = gaussian.members.flatten()
        places = torch.empty(gaussian.mean.P, dtype=torch.int64)
        places[members] = torch.arange(len(members))
        self.register_buffer("members", members)
        self.register_buffer("places", places)
        self.register_buffer("factor", gaussian.factor[:].float().contiguous())

    def forward(self, deviations: list[Tensor]) -> Tensor:
        """At all patches."""
        delta = _taken(self.gather(deviations), self.members)
        together = delta.reshape(self.blocks, -1, self.D) @ self.factor
        return _taken(_squared_norm(together).reshape(len(self.members), -1), self.places)


class NestedDistances(nn.Module):
    """‖L⁻¹δ‖² for Σ = LLᵀ with the channels of coarse layers first, the rows of a layer once per position of it.

    Parameters
    ----------
    mean : PatchEmbeddings
    factors : sequence of Tensor
        For each of :func:`levels`, transposed rows of L⁻¹: (positions, channels up to here, channels of this level).
    """

    def __init__(self, mean: PatchEmbeddings, factors: Sequence[Tensor]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            _Level(mean, level, factor) for level, factor in zip(levels(mean.layout), factors, strict=True)
        )

    def forward(self, deviations: list[Tensor]) -> Tensor:
        """At all patches."""
        return torch.stack([level(deviations) for level in self.levels]).sum(0)


class _Level(nn.Module):
    factor: Tensor

    def __init__(self, mean: PatchEmbeddings, level: Level, factor: Tensor) -> None:
        super().__init__()
        self.layers = level.layers
        grids = mean.grids
        for layer in level.layers:
            at = nearest_positions(grids[layer], mean.grid)[level.first]
            self.register_buffer(f"at{layer}", at if grids[layer] != level.grid else None)
        self.register_buffer("patches", level.patches if level.grid != mean.grid else None)
        self.register_buffer("factor", factor.float().contiguous())

    def forward(self, deviations: list[Tensor]) -> Tensor:
        parts = [_taken(deviations[layer], getattr(self, f"at{layer}")) for layer in self.layers]
        return _taken(_squared_norm(torch.cat(parts, 2) @ self.factor), self.patches)


class DualDistances(nn.Module):
    """‖δ − Aᵀc‖²/b + ‖c‖²/s with c = TTᵀAδ: the dual form without cancellation."""

    kernel: Tensor
    inverse_s: Tensor
    inverse_b: Tensor

    def __init__(self, gaussian: DualGaussian) -> None:
        super().__init__()
        whitener = gaussian.whitener[:]
        samples, P, n = gaussian.samples, gaussian.samples.P, gaussian.samples.n

        def kernel(part: slice) -> tuple[Tensor]:
            block = whitener[part].double()
            return ((block @ block.mT).float(),)

        self.register_buffer("kernel", map_blocks(kernel, P, 24 * n * n)[0])
        s = gaussian.s.unsqueeze(1)
        self.register_buffer("inverse_s", torch.where(s > 0, 1 / s, 0).float())
        self.register_buffer("inverse_b", (1 / gaussian.b).unsqueeze(1).float())
        self.layers: Any = nn.ModuleList(
            _SampleLayer(layer, nearest_positions(grid, samples.grid))
            for layer, grid in zip(samples.layers, samples.grids, strict=True)
        )
        self.used = samples.layout.used

    def forward(self, deviations: list[Tensor]) -> Tensor:
        """At all patches."""
        products = torch.stack([self.layers[k].products(deviations[k]) for k in self.used]).sum(0)
        c = products @ self.kernel
        rest = torch.stack([self.layers[k].rest(deviations[k], c) for k in self.used]).sum(0)
        return rest * self.inverse_b + _squared_norm(c) * self.inverse_s


class _SampleLayer(nn.Module):
    """A of one layer. Patches that share a position are taken together, so that the samples there are read once."""

    samples: Tensor

    def __init__(self, samples: Tensor, at: Tensor) -> None:
        super().__init__()
        positions, share = len(samples), len(at) // len(samples)
        order = at.argsort(stable=True)
        even = torch.equal(at[order], torch.arange(positions).repeat_interleave(share))
        self.share = share if even else 1
        self.register_buffer("samples", (samples if even else samples[at]).float().contiguous())
        self.register_buffer("before", None if even else at)
        self.register_buffer("at", at if self.share > 1 else None)
        self.register_buffer("order", order if self.share > 1 else None)
        self.register_buffer("patches", order.argsort() if self.share > 1 else None)

    def products(self, deviations: Tensor) -> Tensor:
        """A δ at all patches, (P, N, n)."""
        return _taken(_taken(deviations, self.before) @ self.samples.transpose(1, 2), self.at)

    def rest(self, deviations: Tensor, c: Tensor) -> Tensor:
        """‖δ − Aᵀc‖² at all patches, (P, N)."""
        deviations = _taken(deviations, self.before)
        if self.share == 1:
            return _squared_norm(deviations - c @ self.samples)
        positions, n, channels = self.samples.shape
        together = _taken(c, self.order).reshape(positions, -1, n) @ self.samples
        rest = deviations.unsqueeze(1) - together.reshape(positions, self.share, -1, channels)
        return _taken(rest.square().sum(3).flatten(0, 1), self.patches)


class Gather(nn.Module):
    """Deviations of layers to those of patches, (P, N, D)."""

    def __init__(self, mean: PatchEmbeddings) -> None:
        super().__init__()
        self.layers = mean.layout.used
        for layer in self.layers:
            grid = mean.grids[layer]
            self.register_buffer(f"at{layer}", None if grid == mean.grid else nearest_positions(grid, mean.grid))

    def forward(self, deviations: list[Tensor]) -> Tensor:
        """All channels at all patches."""
        return torch.cat([_taken(deviations[layer], getattr(self, f"at{layer}")) for layer in self.layers], 2)


def _squared_norm(vectors: Tensor) -> Tensor:
    """Of the last dimension of three."""
    return vectors.square().sum(2)


def _taken(values: Tensor, at: Any) -> Tensor:
    """Rows of a tensor by a buffer of indices, or all of them where there is none."""
    return values if at is None else values.index_select(0, at)


def distances_of(gaussian: Gaussian) -> nn.Module:
    """The module with the fewest numbers that gives a Gaussian's squared distances.

    Raises
    ------
    InputError
        If the form of the Gaussian is none of this package's.
    """
    if isinstance(gaussian, DiagonalGaussian):
        return DiagonalDistances(gaussian)
    if isinstance(gaussian, TiedGaussian):
        return TiedDistances(gaussian)
    if isinstance(gaussian, NestedGaussian):
        return NestedDistances(gaussian.mean, gaussian.factors)
    if isinstance(gaussian, PrimalGaussian):
        mean = gaussian.mean
        may_nest = len(gaussian.factor) > 1 and factor_numbers(levels(mean.layout))
        factors = factors_of_primal(gaussian) if may_nest else None
        return NestedDistances(mean, factors) if factors else FactorDistances(mean, gaussian.factor[:])
    if isinstance(gaussian, DualGaussian):
        return _of_dual(gaussian)
    raise InputError(f"Gaussians of the form {gaussian.form!r} cannot be exported: use another estimator")


def _of_dual(gaussian: DualGaussian) -> nn.Module:
    mean, n = gaussian.mean, gaussian.samples.n
    dual = mean.P * n * n + 2 * sum(layer.numel() for layer in gaussian.samples.layers)
    if gaussian.whitener.dtype == torch.float64:
        dual = sys.maxsize  # a kernel too ill-conditioned for float32, where a factor, its square root, is not
    nested = factor_numbers(levels(mean.layout))
    if nested is not None and nested < dual and (factors := factors_of_dual(gaussian)):
        return NestedDistances(mean, factors)
    if dual > 3 * mean.P * mean.D**2 // 4:
        return FactorDistances(mean, plain_factor(gaussian))
    return DualDistances(gaussian)
