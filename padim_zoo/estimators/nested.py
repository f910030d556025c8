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

from padim_zoo.arrays import filled
from padim_zoo.embedding import PatchEmbeddings
from padim_zoo.estimators.cells import Cells
from padim_zoo.estimators.gaussian import HALF_ERROR, MEASURED_PATCHES, Gaussian
from padim_zoo.estimators.nesting import Level, levels
from padim_zoo.estimators.triangle import distance_error

_AT_ONCE_BYTES = 64 * 2**20
"""Of cells that are scored together. Products of whole batches share their work among threads better than a pool of
threads shares small blocks, which spends as long on handing them out."""


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
        self._cells = Cells(self.levels)
        self._weights: list[Tensor] | None = None
        self._kept: tuple[Tensor, ...] = tuple(factors)
        self._scales = tuple(scales)
        self._half_error: float | None = None

    @property
    def weights(self) -> list[Tensor]:
        """The factors as they are multiplied with, float32; arranged when first wanted.

        Float32 factors are not kept beside them; those in 16 bit are, since they lie in a file.
        """
        if self._weights is None:
            self._weights = self._cells.arrange(self.columns)
            if not self._scales:
                self._kept = ()
        return self._weights

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """For each level, the columns of F that are its own, at all of its positions; float32."""
        if self._kept and not self._scales:
            return self._kept

        def all_of(number: int, level: Level) -> Tensor:
            positions = torch.arange(len(level.first))
            shape = (len(positions), len(level.dims), level.own)
            return filled(shape, torch.float32, lambda rows: self.columns(number, positions[rows]))

        return tuple(all_of(number, level) for number, level in enumerate(self.levels))

    def columns(self, level: int, positions: Tensor) -> Tensor:
        """The columns of F that belong to a level, at some of its positions (p,).

        Returns
        -------
        Tensor (p, channels of this level and coarser ones, channels of this level), float32
        """
        if not self._kept:
            return self._cells.columns(self.weights, level, positions)
        factor = self._kept[level][positions]
        return _widened(factor, self._scales[level][positions]) if self._scales else factor

    @property
    def half_rounded(self) -> bool:
        """Whether its factors come from a file that keeps them in 16 bit."""
        return bool(self._scales)

    def squared_distances(self, embeddings: PatchEmbeddings) -> Tensor:
        weights, count = self.weights, len(self._cells.positions[0])
        cells_at_once = max(1, _AT_ONCE_BYTES // (4 * self._cells.numbers_of_cell(embeddings.n)))
        parts = [slice(start, min(start + cells_at_once, count)) for start in range(0, count, cells_at_once)]
        squares = torch.cat([self._cells.squared_norms(weights, embeddings, self.mean, part) for part in parts])
        return squares.flatten(0, 1)[self._cells.of_patches]

    def half_error(self) -> float | None:
        """Measured on some patches; None of factors that are in 16 bit already."""
        if self._scales:
            return None
        if self._half_error is None:
            some = torch.arange(0, self.mean.P, -(-self.mean.P // MEASURED_PATCHES))
            columns = [self.columns(number, level.patches[some]) for number, level in enumerate(self.levels)]
            rounded = [_widened(*_halved(each)) for each in columns]
            self._half_error = distance_error(self._whole(columns), self._whole(rounded))
        return self._half_error

    def _whole(self, columns: Sequence[Tensor]) -> Tensor:
        """F (p, D, D) of the columns of all levels, coarse channels first."""
        whole = torch.zeros(len(columns[0]), self.mean.D, self.mean.D)
        for level, own in zip(self.levels, columns, strict=True):
            stop = len(level.dims)
            whole[:, :stop, stop - level.own : stop] = own
        return whole

    def arrays(self, *, half: bool = False) -> dict[str, Tensor]:
        if half and self._scales:
            factors, scales = self._kept, self._scales
        else:
            factors, scales = self.factors, ()
            if half and (self.half_error() or 0.0) <= HALF_ERROR:
                factors, scales = map(tuple, zip(*map(_halved, factors), strict=True))
        arrays = {f"factor.{number}": factor for number, factor in enumerate(factors)}
        return arrays | {f"scale.{number}": scale for number, scale in enumerate(scales)}

    def size_in_bytes(self) -> int:
        numbers = sum(len(level.first) * len(level.dims) * level.own for level in self.levels)
        scales = sum(len(level.first) * level.own for level in self.levels)
        halved = self.half_rounded or (self.half_error() or 0.0) <= HALF_ERROR
        return sum(layer.nbytes for layer in self.mean.layers) + (2 * numbers + 4 * scales if halved else 4 * numbers)

    @classmethod
    def from_arrays(cls, mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Gaussian:
        count = len(levels(mean))
        scales = [arrays[f"scale.{number}"] for number in range(count) if f"scale.{number}" in arrays]
        return cls(mean, [arrays[f"factor.{number}"] for number in range(count)], scales)


def _halved(factor: Tensor) -> tuple[Tensor, Tensor]:
    """A factor in 16 bit and the scales of its columns, so that the range of the type never matters."""
    scale = factor.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    return (factor / scale.unsqueeze(1)).half(), scale


def _widened(factor: Tensor, scale: Tensor) -> Tensor:
    return factor.float() * scale.unsqueeze(1)
