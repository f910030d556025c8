"""PatchCore: distances to a thinned-out bank of normal patches (Roth et al. 2022, arXiv 2106.08265)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import FieldError, is_size
from padim_zoo.core.local_outliers import local_outlier_factors
from padim_zoo.core.memory import amount
from padim_zoo.core.nearest_neighbors import nearest_neighbors
from padim_zoo.core.numbers import number_of
from padim_zoo.core.parallel import map_blocks
from padim_zoo.core.progress import duration, stage
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.calibration import WHOLE_IMAGES
from padim_zoo.detectors.config import PatchCoreConfig, check_share, check_trim_patches, check_whole_number
from padim_zoo.detectors.coreset import (
    PROBED_POINTS,
    compared_pairs,
    coreset_seconds,
    greedy_k_center,
    is_literal,
    k_center_in_blocks,
)
from padim_zoo.detectors.forgetting import embeddings_again, find_learned, remaining_images
from padim_zoo.detectors.layer_names import check_levels
from padim_zoo.detectors.local_patches import local_patches
from padim_zoo.detectors.memory_bank import MemoryBank, Neighborhoods
from padim_zoo.detectors.model_cost import ModelCost
from padim_zoo.detectors.patchcore_network import LocalPatchCoreNetwork, PatchCoreNetwork
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.scoring import predict_patches
from padim_zoo.detectors.scoring_network import AnomalyMaps, grids_of
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.registry import detectors
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from typing_extensions import Self

SAME_PATCH = 1e-4
"""Patches of the bank this close to one of an image, as a share of their length, are that image's own."""

PROJECTED = 128
"""Dimensions in which the coreset is chosen, as in the authors' code."""

DENSITY_NEIGHBORS = 6
"""Normal patches of the same position that a local density is made of, as in SoftPatch."""

LARGE_CHOICE, LONG = 10**9, 60.0
"""Pairs of patches from which on the choice of a coreset is timed before, and seconds from which on this is told."""


class CoresetCost(ModelCost):
    """Of a memory bank that is chosen from all patches."""

    def seconds(self, detector: PatchCore, features: Features, n: int, folds: int) -> float:
        """The choice of the coreset, of all images and of those of each fold."""
        patches, ratio, radius = _patches(detector.embed(features)), detector.coreset_ratio, detector.radius
        cells = 1 if radius is None else -(-len(patches) // (radius + 1) ** 2)
        of_cell = -(-n * len(patches) // cells)
        pairs = cells * compared_pairs(of_cell, max(1, round(ratio * of_cell)))
        once = 0.0 if ratio == 1 else coreset_seconds(detector.projected(patches), pairs)
        return once * (1 + folds * (1 - 1 / folds) ** 2)

    def memory(self, detector: PatchCore, sample_bytes: int, budget: int) -> int:
        """All patches, the same in few dimensions and these about their mean; of a choice in blocks, what is chosen.

        A choice among all compares all with all.
        """
        ratio = detector.coreset_ratio
        n = sample_bytes // (4 * sum(detector.build_backbone().channels[-detector.levels :]))
        in_blocks = detector.radius is None and not is_literal(n, round(ratio * n))  # cells are small
        return min(budget, sample_bytes) + round(ratio * sample_bytes) if in_blocks else 3 * sample_bytes


@detectors.register("patchcore", source="padim_zoo", summary="Nearest of a coreset of normal patches (2106.08265)")
class PatchCore(BackboneDetector[MemoryBank], PatchCoreConfig):
    """Nearest normal patch in a memory bank that holds patches of all images and positions, thinned out by a coreset.

    With ``radius``, the bank of a position holds the patches of the positions around it, and is otherwise used alike.

    Parameters are those of :class:`~padim_zoo.detectors.config.PatchCoreConfig`.

    Attributes
    ----------
    model_ : MemoryBank
    progress : callable, optional
        Told how many patches of the coreset are chosen, of how many, while it is made; None by default.
    """

    name = "patchcore"
    supports_tiles = supports_sizes = supports_devices = True
    score_is_map_maximum = False
    scoring = frozenset({"sigma", "n_neighbors"})
    modeling = frozenset({"coreset_ratio", "radius", "trim_patches"})
    cost = CoresetCost()
    not_in_file = "holds a coreset and not the normal images' patches; fit again"
    progress: Callable[[int, int], None] | None = None

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        check_share("coreset_ratio", self.coreset_ratio)
        check_whole_number("n_neighbors", self.n_neighbors, 1)
        check_levels(self, self.levels, PatchCoreConfig.levels)
        if self.radius is not None:
            check_whole_number("radius", self.radius, 0)
            if self.tiles is not None:
                raise InputError(
                    f"patchcore(radius={self.radius}) compares neighboring positions, and tiles have none beyond their "
                    "edges: give radius or tiles, not both"
                )
        check_trim_patches(self.trim_patches, self.augment)

    @property
    def one_size_options(self) -> tuple[str, ...]:
        """As of every detector, and the radius, which goes by positions."""
        return super().one_size_options + (() if self.radius is None else ("radius",))

    @property
    def draws(self) -> tuple[str, ...]:
        """The coreset, unless all patches are kept; and augmented views."""
        return ("coreset",) * (self.coreset_ratio < 1) + self.drawn_views

    # -- embed -------------------------------------------------------------------------------------------------------

    def embed(self, features: Features) -> PatchEmbeddings:
        """Patches that know their neighbors (section 3.1), on the grid of the finest of the last layers."""
        tiles = self.extractor.tile_layout(features.image_size)
        return PatchEmbeddings.of(features.with_maps((local_patches(features.maps[-self.levels :], tiles),)))

    # -- fit ---------------------------------------------------------------------------------------------------------

    def fit_model(self, statistics: Samples | Moments) -> MemoryBank:
        """A coreset of all patches of all images, or of those of each cell of positions."""
        assert isinstance(statistics, Samples)
        bank = self._bank_of(statistics.embeddings)
        if self.trim_patches is not None:
            bank = bank.some(_dense(statistics.embeddings, self.trim_patches))
        return self._coreset(bank, 0)

    def _bank_of(self, embeddings: PatchEmbeddings) -> MemoryBank:
        """All patches that count."""
        if self.radius is None:
            return MemoryBank(_patches(embeddings))
        positions = torch.arange(embeddings.P)[:, None].expand(-1, embeddings.n)
        counted = embeddings.present(embeddings.grid)
        positions = positions.flatten() if counted is None else positions[counted]
        return MemoryBank(_patches(embeddings), Neighborhoods(positions, embeddings.grid, self.radius))

    def _coreset(self, bank: MemoryBank, thinned: int) -> MemoryBank:
        """A coreset of a bank, or one of each of its cells.

        Its size is the share of the patches that were seen. The first ``thinned`` of the bank are what is left of more.
        """
        cells = [torch.arange(len(bank))] if bank.neighborhoods is None else bank.neighborhoods.of_cells()
        counts = []
        for rows in cells:
            old = int((rows < thinned).sum())
            seen = round(old / self.coreset_ratio) + len(rows) - old
            counts.append(min(len(rows), max(1, round(self.coreset_ratio * seen))))
        if sum(counts) == len(bank):
            return bank.some(torch.arange(len(bank)))
        sizes = [(len(rows), count) for rows, count in zip(cells, counts, strict=True)]
        literal = all(is_literal(*size) for size in sizes)
        points = self.projected(bank.patches if literal else bank.patches[:PROBED_POINTS])
        pairs = sum(compared_pairs(*size) for size in sizes)
        if pairs > LARGE_CHOICE and (seconds := coreset_seconds(points, pairs)) > LONG:
            grows = "its time grows with the square of the patches" if literal else "it is made in blocks of patches"
            warnings.warn(
                f"the choice of {sum(counts):,} of {len(bank):,} patches takes about {duration(seconds)}, and they "
                f"take {amount(sum(counts) * bank.patches[0].nbytes)}: {grows}; fewer: --resize, or "
                f"patchcore(coreset_ratio={min(0.01, self.coreset_ratio / 10):g})",
                stacklevel=2,
            )
        selected: list[Tensor] = []
        with stage("choosing the coreset", sum(counts), "patches") as progress:
            for rows, count in zip(cells, counts, strict=True):
                done = sum(len(each) for each in selected)

                def report(chosen: int, of: int, done: int = done, count: int = count) -> None:
                    progress.advance(done + chosen * count // of - progress.done)
                    if self.progress is not None:
                        self.progress(done + chosen * count // of, sum(counts))

                if is_literal(len(rows), count):
                    of_cell = points[rows] if literal else self.projected(bank.patches[rows])
                    selected.append(rows[greedy_k_center(of_cell, count, self.seed, report)])
                    continue

                def of_block(block: slice, rows: Tensor = rows) -> Tensor:
                    return self.projected(bank.patches[rows[block]])

                selected.append(rows[k_center_in_blocks(of_block, len(rows), count, self.seed, report)])
        return bank.some(torch.cat(selected))

    def projected(self, patches: Tensor) -> Tensor:
        """Patches in few dimensions, in which distances are nearly the same (Johnson and Lindenstrauss)."""
        D = patches.shape[1]
        if D <= PROJECTED:
            return patches
        from sklearn.random_projection import SparseRandomProjection

        projection = SparseRandomProjection(PROJECTED, random_state=self.seed).fit(patches[:1].numpy())
        matrix = torch.from_numpy(projection.components_.toarray()).to(patches.dtype).T.contiguous()
        return patches @ matrix

    def earlier_fit(self) -> Any:
        """The samples, or the memory bank of a detector that was loaded, which knows nothing else."""
        return self.made_model if self.statistics_ is None else self.statistics_

    def add_features(self, parts: Iterable[Features], earlier: Any) -> None:
        """As of every detector; to a memory bank, new patches are added, and a coreset of both is the new one.

        Every old patch stays as near to the bank as the old coreset and the new one together allow.
        """
        if not isinstance(earlier, MemoryBank):
            return super().add_features(parts, earlier)
        if self.trim_patches is not None:
            raise InputError("trim_patches needs the patches of all images, which a model file lacks: fit again")
        added = copy.copy(self)
        super(PatchCore, added).add_features(parts, None)
        assert isinstance(added.statistics_, Samples)
        # The bank stands for as many patches as it is a share of.
        self.made_model = self._coreset(earlier.joined(self._bank_of(added.statistics_.embeddings)), len(earlier))
        self.calibration_ = None
        self.several_sizes |= added.several_sizes
        return None

    def forget(self, images: Any) -> Self:
        """Become the detector that was never fitted on some of its images; see :meth:`BackboneDetector.forget`.

        Of a detector that was loaded, their patches leave the memory bank. The coreset was chosen with them present,
        so that patches of other images that they stood for may be missed: a warning says so.
        """
        if self.made_model is None or self.statistics_ is not None:
            return super().forget(images)
        found, memory_bank = find_learned(self, images), self.made_model
        gone = torch.zeros(len(memory_bank), dtype=torch.bool)
        for embeddings in embeddings_again(self, found, None):
            distances, _ = nearest_neighbors(memory_bank.patches, _patches(embeddings))
            gone |= distances[:, 0] <= SAME_PATCH * torch.linalg.vector_norm(memory_bank.patches, dim=1)
        if gone.all():
            raise InputError("all patches of the memory bank are of these images: fit again without them")
        left = memory_bank.some(~gone)
        if left.serves_less_than(memory_bank):
            raise InputError("all patches near some position are of these images: fit again without them")
        self.made_model, self.calibration_ = left, None
        self.learned_images_ = remaining_images(self, found)
        Caches.of(self.cache).forget(found.paths)
        warnings.warn(
            f"{int(gone.sum())} of {len(gone)} patches leave the memory bank, whose coreset was chosen with them "
            "present: what they stood for in other images may score higher; fit again to be exact",
            stacklevel=2,
        )
        return self

    # -- score -------------------------------------------------------------------------------------------------------

    def score_embeddings(self, model: MemoryBank, embeddings: PatchEmbeddings) -> Prediction:
        """Distance of each patch to the bank; the score is that of the worst patch, weighed (equations 6 and 7)."""
        (layer,) = embeddings.layers  # (P, N, D)
        distances, indices = model.nearest(layer)
        counted = model.counted(embeddings.present(embeddings.grid), embeddings.n)
        serves = None if counted is None else counted.to(layer.device)
        worst = (distances if serves is None else distances.where(serves, -1.0)).argmax(0)
        images = torch.arange(embeddings.n, device=layer.device)
        scores = distances[worst, images]
        if self.n_neighbors > 1:
            around = model.around(indices[worst, images], worst, self.n_neighbors)
            scores = scores * _weight(model.patches, layer[worst, images], around, scores)
        if serves is not None:
            scores = scores.where(serves.any(0), torch.nan)
        masks = embeddings.roi_masks
        return predict_patches(self, distances, embeddings.grid, scores=scores, roi_masks=masks, counted=counted)

    # -- state -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        size, D = self.model_.patches.shape
        trimmed = {}
        if self.trim_patches is not None:
            trimmed = {"trimmed patches": f"{self.trim_patches:g} of all before the coreset; {WHOLE_IMAGES}"}
        within = "" if self.radius is None else f", compared within {number_of(self.radius, 'position')}"
        return {**super().describe_fit(), "bank": f"{size} patches of {D} dimensions{within}", **trimmed}

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The memory bank, from which a fit can always go on."""
        arrays, places = {"memory_bank": self.model_.patches}, self.model_.neighborhoods
        if places is None:
            return arrays, {}
        return {**arrays, "positions": places.positions}, {"grid": places.grid}

    def restore(self, file: DetectorFile) -> MemoryBank:
        """The memory bank."""
        patches, positions = file.arrays("memory_bank")[""], file.arrays("positions").get("")
        if positions is None or self.radius is None:
            return MemoryBank(patches)
        grid: Any = file.header.get("grid")
        if not is_size(grid):
            raise FieldError(f"grid is {grid!r}: expected height and width")
        height, width = grid
        if positions.dtype != torch.int64 or positions.shape != patches.shape[:1]:
            raise FieldError("positions are not one number for each patch of the memory bank")
        if len(positions) and not 0 <= int(positions.min()) <= int(positions.max()) < height * width:
            raise FieldError(f"positions of the memory bank lie outside of the grid of {height}x{width}")
        return MemoryBank(patches, Neighborhoods(positions, (height, width), self.radius))

    def scoring_network(self) -> PatchCoreNetwork | LocalPatchCoreNetwork:
        """Scores and maps by the memory bank."""
        bank, places = self.model_, self.model_.neighborhoods
        grids = grids_of(self.build_backbone(), self.image_size_)[-self.levels :]
        grid = max(grids, key=lambda grid: grid[0] * grid[1])
        to_maps = AnomalyMaps(grid, self.image_size_, self.sigma)
        if places is None:
            return PatchCoreNetwork(bank.patches, self.n_neighbors, self.levels, grid, to_maps)
        if not places.served.all():
            raise InputError(
                "a detector that was fitted with regions of interest cannot be exported: its memory bank has no "
                "patches near some positions, and a network scores a whole image"
            )
        return LocalPatchCoreNetwork(bank.patches, places, self.n_neighbors, self.levels, to_maps)


def _patches(embeddings: PatchEmbeddings) -> Tensor:
    """All patches of all images that count, at most (P·n, D)."""
    (layer,) = embeddings.layers
    counted = embeddings.present(embeddings.grid)
    return layer.flatten(0, 1) if counted is None else layer[counted]


def _dense(embeddings: PatchEmbeddings, share: float) -> Tensor:
    """Which patches of a bank of all stay, by their local density among those of their position."""
    ((layer,), n), counted = (embeddings.layers, embeddings.n), embeddings.present(embeddings.grid)
    if counted is not None:
        if (counted.any(1) & ~counted.all(1)).any():
            raise InputError("trim_patches needs one size and one mask for all images: resize them, or leave it out")
        layer = layer[counted.all(1)]
    k = min(DENSITY_NEIGHBORS, n - 1)
    stays = torch.ones(layer.shape[:2], dtype=torch.bool)
    if k:
        bytes_of_position = 8 * n * (3 * n + 2 * layer.shape[2])
        (factors,) = map_blocks(lambda part: (local_outlier_factors(layer[part], k),), len(layer), bytes_of_position)
        # No position is left without patches: those up to the median stay.
        sparse = (factors > factors.median(1, keepdim=True).values).flatten().nonzero()[:, 0]
        order = factors.flatten()[sparse].argsort(descending=True, stable=True)
        stays.view(-1)[sparse[order[: round(share * factors.numel())]]] = False
    return stays.flatten()


def _weight(bank: Tensor, patches: Tensor, around: Tensor, distances: Tensor) -> Tensor:
    """1 − exp(d*) / Σ exp(d) over the neighborhood in the bank of the nearest patch, which is one of it.

    Exponents are taken relative to the largest: features of some backbones have distances whose exponential is
    beyond any float.

    Parameters
    ----------
    bank : Tensor (m, D)
    patches : Tensor (n, D)
    around : Tensor (n, k), int64
        The neighborhood of each; -1 where it is smaller.
    distances : Tensor (n,)
        To the nearest patch.
    """
    others = torch.linalg.vector_norm(bank[around] - patches[:, None], dim=2).masked_fill(around < 0, -torch.inf)
    largest = others.amax(1, keepdim=True)
    shares = (others - largest).double().exp().sum(1)
    weight: Tensor = 1 - (distances - largest[:, 0]).double().exp() / shares
    return weight.float().clamp_min(0).where((around >= 0).sum(1) > 1, 1.0)
