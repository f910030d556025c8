"""Gaussians whose factors are kept once per position of each layer, and not once per patch.

With the channels of coarse layers first, the columns of F that belong to a layer are the same at all patches that share
a position of it (:mod:`padim_zoo.estimators.nesting`), if an estimator treats all patches alike, as Σ = S + εI does.
Nothing is approximated. For resnet18 at 256 × 256 pixels with 100 channels that is 9 million numbers where there are 41
million in all F, and each is read once for an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from padim_zoo.embedding import PatchEmbeddings, nearest_positions
from padim_zoo.estimators.gaussian import FEW_IMAGES, HALF_ERROR, MEASURED_PATCHES, Gaussian
from padim_zoo.estimators.nesting import Level, levels
from padim_zoo.estimators.triangle import distance_error
from padim_zoo.parallel import map_blocks


class NestedGaussian(Gaussian):
    """Σ⁻¹ = F Fᵀ with F in parts, one for each grid of the layers.

    Parameters
    ----------
    mean : PatchEmbeddings
        Its grids nest.
    factors : sequence of Tensor
        For each of :func:`~padim_zoo.estimators.nesting.levels`, the columns of F that are its own: (positions,
        channels of this level and coarser ones, channels of this level), float32, or float16 with ``scales``.
    scales : sequence of Tensor, optional
        What the columns of float16 factors are multiplied by: (positions, channels of this level), float32.
    """

    form = "nested"

    def __init__(self, mean: PatchEmbeddings, factors: Sequence[Tensor], scales: Sequence[Tensor] = ()) -> None:
        super().__init__(mean)
        self.levels = levels(mean)
        self._kept = tuple(factors)
        self._scales = tuple(scales)
        self._factors = None if scales else self._kept
        self._half_error: float | None = None

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """The factors in float32; of a model that was loaded in 16 bit, made when first wanted."""
        if self._factors is None:
            self._factors = _widened(self._kept, self._scales)
        return self._factors

    @property
    def half_rounded(self) -> bool:
        """Whether its factors come from a file that keeps them in 16 bit."""
        return bool(self._scales)

    def squared_distances(self, embeddings: PatchEmbeddings) -> Tensor:
        deviations = embeddings - self.mean
        total = torch.zeros(embeddings.P, embeddings.n)
        for level, factor in zip(self.levels, self.factors, strict=True):
            squares = self._of_level(level, factor, deviations)
            total += squares if level.grid == self.mean.grid else squares[level.patches]
        return total

    def _of_level(self, level: Level, factor: Tensor, deviations: PatchEmbeddings) -> Tensor:
        """What the channels of a level add at each of its positions, (positions, N)."""
        layers = []
        for layer in level.layers:
            grid = deviations.grids[layer]
            at = None if grid == level.grid else nearest_positions(grid, deviations.grid)[level.first]
            layers.append((deviations.layers[layer], at))

        def block(positions: slice) -> tuple[Tensor]:
            parts = [layer[positions if at is None else at[positions]] for layer, at in layers]
            return ((torch.cat(parts, 2) @ factor[positions]).square_().sum(2),)

        if deviations.n < FEW_IMAGES:
            return block(slice(0, len(factor)))[0]
        rows, columns = factor.shape[1:]
        (squares,) = map_blocks(block, len(factor), 4 * (rows * columns + deviations.n * (rows + columns)))
        return squares

    def half_error(self) -> float | None:
        """Measured on some patches; None of factors that are in 16 bit already."""
        if self._scales:
            return None
        if self._half_error is None:
            every = -(-self.mean.P // MEASURED_PATCHES)
            exact, rounded = (self._whole(factors, every) for factors in (self.factors, _widened(*_halved(self._kept))))
            self._half_error = distance_error(exact, rounded)
        return self._half_error

    def _whole(self, factors: Sequence[Tensor], every: int) -> Tensor:
        """F (p, D, D) of some patches, coarse channels first."""
        some = torch.arange(0, self.mean.P, every)
        whole = torch.zeros(len(some), self.mean.D, self.mean.D)
        for level, factor in zip(self.levels, factors, strict=True):
            stop = len(level.dims)
            whole[:, :stop, stop - level.own : stop] = factor[level.patches[some]]
        return whole

    def arrays(self, *, half: bool = False) -> dict[str, Tensor]:
        factors, scales = self._kept, self._scales
        if half and not scales and (self.half_error() or 0.0) <= HALF_ERROR:
            factors, scales = _halved(factors)
        elif not half and scales:
            factors, scales = self.factors, ()
        arrays = {f"factor.{number}": factor for number, factor in enumerate(factors)}
        return arrays | {f"scale.{number}": scale for number, scale in enumerate(scales)}

    @classmethod
    def from_arrays(cls, mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Gaussian:
        count = len(levels(mean))
        scales = [arrays[f"scale.{number}"] for number in range(count) if f"scale.{number}" in arrays]
        return cls(mean, [arrays[f"factor.{number}"] for number in range(count)], scales)


def _halved(factors: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Factors in 16 bit and the scales of their columns, so that the range of the type never matters."""
    scales = tuple(factor.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) for factor in factors)
    halves = tuple((factor / scale.unsqueeze(1)).half() for factor, scale in zip(factors, scales, strict=True))
    return halves, scales


def _widened(factors: Sequence[Tensor], scales: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(factor.float() * scale.unsqueeze(1) for factor, scale in zip(factors, scales, strict=True))
