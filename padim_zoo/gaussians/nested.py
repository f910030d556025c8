"""Gaussians whose factors are kept once per position of each layer, and not once per patch.

With the channels of coarse layers first, the columns of F that belong to a layer are the same at all patches that share
a position of it (:mod:`padim_zoo.gaussians.grid_hierarchy`), if an estimator treats all patches alike, as Σ = S + εI
does. Nothing is approximated. For resnet18 at 256 × 256 pixels with 100 channels that is 9 million numbers where there
are 41 million in all F, and each is read once for an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from padim_zoo.core.cholesky import IllConditionedError, whitening_factor
from padim_zoo.core.moving import HOST, moved
from padim_zoo.core.parallel import map_blocks, one_thread_for
from padim_zoo.core.spill import build_array
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.gaussian import (
    HALF_ERROR,
    MEASURED_PATCHES,
    Gaussian,
    arrays_of_samples,
    bytes_of,
    samples_about,
)
from padim_zoo.gaussians.grid_hierarchy import (
    IMAGES_AT_ONCE,
    Cells,
    Level,
    levels,
    split_columns,
    stack_columns,
)
from padim_zoo.gaussians.packed_triangular import distance_error
from padim_zoo.statistics.samples import Samples, Statistics

PRIMAL_CONDITION = 1e7
"""Largest tr(a·S)/b at which a whitening factor keeps distances to 1e-4 in float32: nothing cancels in it."""

_AT_ONCE_BYTES = 64 * 2**20
"""Of cells that are scored together. Products of whole batches share their work among threads better than a pool of
threads shares small blocks, which spends as long on handing them out."""

_LARGEST_CELL_BYTES = 256 * 2**20
"""Working memory of one cell beyond which a fit does without: a layer of a single position has all others inside it."""


class NestedGaussian(Gaussian):
    """Σ⁻¹ = F Fᵀ with F in parts, one for each grid of the layers.

    Parameters
    ----------
    mean : PatchEmbeddings
        Its grids nest.
    factors : sequence of Tensor
        For each of :func:`~padim_zoo.gaussians.grid_hierarchy.levels`, the columns of F that are its own: (positions,
        channels of this level and coarser ones, channels of this level), float32, or float16 with ``scales``.
    scales : sequence of Tensor, optional
        What the columns of float16 factors are multiplied by: (positions, channels of this level), float32.
    weights : list of Tensor, optional
        Instead of factors, these as :class:`~padim_zoo.gaussians.grid_hierarchy.Cells` arranges them.
    """

    form = "nested"
    supports_devices = True

    def __init__(
        self,
        mean: PatchEmbeddings,
        factors: Sequence[Tensor] = (),
        scales: Sequence[Tensor] = (),
        *,
        weights: list[Tensor] | None = None,
    ) -> None:
        super().__init__(mean)
        self.levels = levels(mean.layout)
        self._cells = moved(Cells(self.levels), mean.device)
        self._weights = weights
        self._means: list[Tensor] | None = None
        self._factors: tuple[Tensor, ...] = tuple(factors)
        self._scales = tuple(scales)
        self._half_error: float | None = None

    @property
    def weights(self) -> list[Tensor]:
        """The factors as they are multiplied with, float32; arranged when first wanted.

        Float32 factors are not kept beside them; those in 16 bit are, since they lie in a file.
        """
        if self._weights is None:
            self._weights = _arranged(self._cells, self._columns_of_cells)
            if not self._scales:
                self._factors = ()
        return self._weights

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """For each level, the columns of F that are its own, at all of its positions; float32."""
        factors = self._factors
        if factors and not self._scales:
            return factors

        def all_of(number: int, level: Level) -> Tensor:
            positions = torch.arange(len(level.first))
            shape = (len(positions), len(level.dims), level.own)
            return build_array(shape, torch.float32, lambda rows: self.columns(number, positions[rows]))

        return tuple(all_of(number, level) for number, level in enumerate(self.levels))

    def columns(self, level: int, positions: Tensor) -> Tensor:
        """The columns of F that belong to a level, at some of its positions (p,).

        Returns
        -------
        Tensor (p, channels of this level and coarser ones, channels of this level), float32
        """
        factors = self._factors  # another thread may have arranged them meanwhile
        if not factors:
            return self._cells.columns(self.weights, level, positions)
        factor = factors[level][positions]
        return _widened(factor, self._scales[level][positions]) if self._scales else factor

    def _columns_of_cells(self, cells: slice) -> list[Tensor]:
        slots = [slice(cells.start * inside, cells.stop * inside) for inside in self._cells.inside]
        return [self.columns(level, self._cells.positions[level][part]) for level, part in enumerate(slots)]

    @property
    def half_rounded(self) -> bool:
        """Whether its factors come from a file that keeps them in 16 bit."""
        return bool(self._scales)

    def squared_distances(self, embeddings: PatchEmbeddings) -> Tensor:
        weights, count = self.weights, self._cells.count
        if self._means is None:
            self._means = [self._mean_of(number, level) for number, level in enumerate(self.levels)]
        cells_at_once = max(1, _AT_ONCE_BYTES // (4 * self._cells.numbers_of_cell(embeddings.n)))
        parts = [slice(start, min(start + cells_at_once, count)) for start in range(0, count, cells_at_once)]
        beside_weights = count * (self._cells.numbers_of_cell(embeddings.n) - self._cells.numbers_of_cell(0))
        with one_thread_for(beside_weights):
            squares = [self._cells.squared_norms(weights, embeddings, self._means, part) for part in parts]
            together = squares[0] if len(squares) == 1 else torch.cat(squares)
            return together.flatten(0, 1).index_select(0, self._cells.of_patches)

    def _mean_of(self, number: int, level: Level) -> Tensor:
        """A level's own channels of the mean as the cells arrange them, (slots, 1, own)."""
        slots = len(self._cells.positions[number])
        return build_array(
            (slots, 1, level.own), torch.float32, lambda rows: self._cells.arranged(self.mean, number, rows)
        )

    def half_error(self) -> float | None:
        """Measured on some patches; None of factors that are in 16 bit already."""
        if self._scales:
            return None
        if self._half_error is None:
            measured = torch.arange(0, self.mean.P, -(-self.mean.P // MEASURED_PATCHES))
            columns = [self.columns(number, level.patches[measured]) for number, level in enumerate(self.levels)]
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
            factors, scales = self._factors, self._scales
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
        count = len(levels(mean.layout))
        scales = [arrays[f"scale.{number}"] for number in range(count) if f"scale.{number}" in arrays]
        return cls(mean, [arrays[f"factor.{number}"] for number in range(count)], scales)


class SampledGaussian(NestedGaussian):
    """The nested form of few images, whose samples are fewer numbers than its factors: a file keeps these instead.

    The factors are fitted to the samples when the Gaussians are made, and again when loaded ones first score.

    Parameters
    ----------
    mean : PatchEmbeddings
    samples : PatchEmbeddings
        The n centered samples.
    b : float
        What is added to the diagonal of their covariances.
    weights : list of Tensor, optional
        As of :class:`NestedGaussian`.
    """

    form = "samples"
    samples: PatchEmbeddings

    def __init__(
        self, mean: PatchEmbeddings, samples: PatchEmbeddings, b: float, weights: list[Tensor] | None = None
    ) -> None:
        super().__init__(mean, weights=weights)
        self.samples = samples
        self.b = b

    @classmethod
    def fit(cls, statistics: Samples, nested: Sequence[Level], b: float) -> SampledGaussian | None:
        """Gaussians of Σ = S + b·I, or None where :func:`fit_nested` has none."""
        samples = statistics.centered()
        fitted = fit_nested(Samples(samples), nested, b, PRIMAL_CONDITION)
        return None if fitted is None else cls(statistics.mean, samples, b, fitted.weights)

    @property
    def weights(self) -> list[Tensor]:
        """The factors as they are multiplied with, float32; of loaded Gaussians, fitted when first wanted."""
        if self._weights is None:
            # Whether they are well-conditioned was decided when they were made: here rounding may differ.
            fitted = fit_nested(Samples(self.samples), self.levels, self.b, math.inf)
            assert fitted is not None
            self._weights = fitted.weights
        return self._weights

    def half_error(self) -> None:
        """No factors are in a file."""

    def arrays(self, *, half: bool = False) -> dict[str, Tensor]:
        return {**arrays_of_samples(self.samples), "b": torch.tensor([self.b], dtype=torch.float64)}

    def size_in_bytes(self) -> int:
        return bytes_of([*self.mean.layers, *self.arrays().values()])

    @classmethod
    def from_arrays(cls, mean: PatchEmbeddings, arrays: Mapping[str, Tensor]) -> Gaussian:
        return cls(mean, samples_about(mean, arrays), float(arrays["b"]))


def fit_nested(statistics: Statistics, nested: Sequence[Level], b: float, condition: float) -> NestedGaussian | None:
    """Gaussians of Σ = S + b·I, or None where float32 would not keep their distances, or one cell is too large to fit.

    Level by level, coarse ones first. With A⁻¹ = G Gᵀ the coarser channels' part of Σ, known by then, B what they have
    in common with the level's own channels, C these channels' part, and V = GᵀB,

        Σ = [A B; Bᵀ C],   F = [G  −G V E; 0  E]   with   E Eᵀ = (C − VᵀV)⁻¹.

    So only C − VᵀV, as large as the level has channels of its own, is factorized at each of its positions.

    Parameters
    ----------
    statistics : Statistics
    nested : sequence of Level
        Of its mean.
    b : float
        What is added to the diagonal.
    condition : float
        Largest tr(S)/b to be accepted.
    """
    device = statistics.mean.device
    cells = moved(Cells(moved(nested, HOST)), device)
    divisor = max(statistics.n - 1, 1)

    def columns(block: slice) -> list[Tensor]:
        own_columns: list[Tensor] = []
        coarser = trace = torch.zeros(1, dtype=torch.float64, device=device)
        scatters = cells.scatters(statistics, block)
        for level, count, scatter in zip(nested, cells.children, scatters, strict=True):
            covariance = scatter / divisor
            common, own = covariance[:, : -level.own], covariance[:, -level.own :]
            trace = trace.repeat_interleave(count) + own.diagonal(dim1=1, dim2=2).sum(1)
            if float(trace.max()) > condition * b:
                raise IllConditionedError
            own.diagonal(dim1=1, dim2=2).add_(b)
            if not own_columns:
                factor = whitening_factor(own)
                own_columns.append(factor.float())
            else:
                # Positions inside one coarser position share G: their columns are multiplied side by side.
                projected = coarser.mT @ stack_columns(common, count)
                shared, explained = (split_columns(each, count) for each in (coarser @ projected, projected))
                factor = whitening_factor(own - explained.mT @ explained)
                last = torch.cat([-shared @ factor, factor], 1)
                own_columns.append(last.float())
                if level is not nested[-1]:
                    before = coarser.repeat_interleave(count, 0)
                    factor = torch.cat([functional.pad(before, (0, 0, 0, level.own)), last], 2)
            coarser = factor
        return own_columns

    sizes = list(zip(cells.inside, nested, strict=True))
    factorized = sum(inside * len(level.dims) ** 2 for inside, level in sizes[:-1])
    images = min(statistics.n, IMAGES_AT_ONCE)
    rest = sum(inside * level.own * (4 * len(level.dims) + 2 * images) for inside, level in sizes)
    working = 8 * (4 * factorized + rest)
    if working > _LARGEST_CELL_BYTES:
        return None
    try:
        weights = _arranged(cells, columns, working)
    except IllConditionedError:
        return None
    return NestedGaussian(statistics.mean, weights=weights)


def _arranged(cells: Cells, columns: Callable[[slice], Sequence[Tensor]], bytes_per_cell: int = 0) -> list[Tensor]:
    """The weights of each level, of the columns of F at slices of cells; made cell by cell.

    ``bytes_per_cell`` is the memory that the columns are made in, beside the results.
    """
    whole = map_blocks(
        lambda block: cells.weights(columns(block), block),
        cells.count,
        bytes_per_cell + 8 * cells.numbers_of_cell(0),
        cells.of_patches.device,
    )
    return [each.flatten(0, 1) for each in whole]


def _halved(factor: Tensor) -> tuple[Tensor, Tensor]:
    """A factor in 16 bit and the scales of its columns, so that the range of the type never matters."""
    scale = factor.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    return (factor / scale.unsqueeze(1)).half(), scale


def _widened(factor: Tensor, scale: Tensor) -> Tensor:
    return factor.float() * scale.unsqueeze(1)
