"""PatchCore: distances to a thinned-out bank of normal patches (Roth et al. 2022, arXiv 2106.08265)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.nearest_neighbors import nearest_neighbors
from padim_zoo.core.progress import duration
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.config import PatchCoreConfig
from padim_zoo.detectors.coreset import coreset_seconds, greedy_k_center
from padim_zoo.detectors.forgetting import embeddings_again, find_learned, remaining_images
from padim_zoo.detectors.local_patches import local_patches
from padim_zoo.detectors.model_cost import ModelCost
from padim_zoo.detectors.parameter_checks import check_share, check_whole_number
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.scoring_network import AnomalyMaps, grids_of
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.features.anomaly_map import anomaly_maps
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

LARGE_CHOICE, LONG = 10**9, 60.0
"""Pairs of patches from which on the choice of a coreset is timed before, and seconds from which on this is told."""


class CoresetCost(ModelCost):
    """Of a memory bank that is chosen from all patches."""

    def seconds(self, detector: PatchCore, features: Features, n: int, folds: int) -> float:
        """The choice of the coreset, of all images and of those of each fold."""
        patches, ratio = _patches(detector.embed(features)), detector.coreset_ratio
        count = max(1, round(ratio * n * len(patches)))
        once = 0.0 if ratio == 1 else coreset_seconds(detector.projected(patches), n * len(patches), count)
        return once * (1 + folds * (1 - 1 / folds) ** 2)

    def memory(self, sample_bytes: int, budget: int) -> int:
        """All patches, the same in few dimensions and these about their mean: the choice compares all with all."""
        return 3 * sample_bytes


@detectors.register("patchcore", source="padim_zoo", summary="Nearest of a coreset of normal patches (2106.08265)")
class PatchCore(BackboneDetector[Tensor], PatchCoreConfig):
    """Nearest normal patch in a memory bank that holds patches of all images and positions, thinned out by a coreset.

    Parameters are those of :class:`~padim_zoo.detectors.config.PatchCoreConfig`.

    Attributes
    ----------
    model_ : Tensor (m, D), float32
        The memory bank.
    progress : callable, optional
        Told how many patches of the coreset are chosen, of how many, while it is made; None by default.
    """

    name = "patchcore"
    score_is_map_maximum = False
    scoring = frozenset({"sigma", "n_neighbors"})
    modeling = frozenset({"coreset_ratio"})
    cost = CoresetCost()
    progress: Callable[[int, int], None] | None = None

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        check_share("coreset_ratio", self.coreset_ratio)
        check_whole_number("n_neighbors", self.n_neighbors, 1)
        check_whole_number("levels", self.levels, 1)

    @property
    def draws(self) -> tuple[str, ...]:
        """The coreset, unless all patches are kept; and augmented views."""
        return ("coreset",) * (self.coreset_ratio < 1) + self.drawn_views

    # -- embed -------------------------------------------------------------------------------------------------------

    def embed(self, features: Features) -> PatchEmbeddings:
        """Patches that know their neighbors (section 3.1), on the grid of the finest of the last layers."""
        return PatchEmbeddings.of(features.with_maps((local_patches(features.maps[-self.levels :]),)))

    # -- fit ---------------------------------------------------------------------------------------------------------

    def fit_model(self, statistics: Samples | Moments) -> Tensor:
        """A coreset of all patches of all images."""
        assert isinstance(statistics, Samples)
        patches = _patches(statistics.embeddings)
        return self._coreset(patches, len(patches))

    def _coreset(self, patches: Tensor, stands_for: int) -> Tensor:
        """A coreset whose size is the share of the patches that were seen, of those that are left of them."""
        count = min(len(patches), max(1, round(self.coreset_ratio * stands_for)))
        if count == len(patches):
            return patches.clone()
        points = self.projected(patches)
        if len(points) * count > LARGE_CHOICE and (seconds := coreset_seconds(points, len(points), count)) > LONG:
            warnings.warn(
                f"the choice of {count:,} of {len(points):,} patches takes about {duration(seconds)}: its time grows "
                "with the square of the patches; fewer: --resize, or patchcore(coreset_ratio=0.01)",
                stacklevel=2,
            )
        return patches[greedy_k_center(points, count, self.seed, self.progress)]

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
        if not isinstance(earlier, Tensor):
            return super().add_features(parts, earlier)
        added = copy.copy(self)
        super(PatchCore, added).add_features(parts, None)
        assert isinstance(added.statistics_, Samples)
        patches = _patches(added.statistics_.embeddings)
        # The bank stands for as many patches as it is a share of.
        stands_for = round(len(earlier) / self.coreset_ratio) + len(patches)
        self.made_model = self._coreset(torch.cat([earlier, patches]), stands_for)
        self.calibration_ = None
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
            distances, _ = nearest_neighbors(memory_bank, _patches(embeddings))
            gone |= distances[:, 0] <= SAME_PATCH * torch.linalg.vector_norm(memory_bank, dim=1)
        if gone.all():
            raise InputError("all patches of the memory bank are of these images: fit again without them")
        self.made_model, self.calibration_ = memory_bank[~gone], None
        self.learned_images_ = remaining_images(self, found)
        Caches.of(self.cache).forget(found.paths)
        warnings.warn(
            f"{int(gone.sum())} of {len(gone)} patches leave the memory bank, whose coreset was chosen with them "
            "present: what they stood for in other images may score higher; fit again to be exact",
            stacklevel=2,
        )
        return self

    def require_statistics(self, purpose: str) -> Samples | Moments | None:
        """The samples, or None before the first fit; a model file does not hold them."""
        if self.statistics_ is None and self.made_model is not None:
            raise InputError(
                f"cannot {purpose}: the model file holds a coreset and not the normal images' patches; fit again"
            )
        return self.statistics_

    # -- score -------------------------------------------------------------------------------------------------------

    def score_embeddings(self, model: Tensor, embeddings: PatchEmbeddings) -> Prediction:
        """Distance of each patch to the bank; the score is that of the worst patch, weighed (equations 6 and 7)."""
        (layer,) = embeddings.layers  # (P, N, D)
        nearest_distances, indices = nearest_neighbors(layer.flatten(0, 1), model)
        distances, indices = nearest_distances.view(layer.shape[:2]), indices.view(layer.shape[:2])
        counted = embeddings.present(embeddings.grid)
        worst = (distances if counted is None else distances.where(counted, -1.0)).argmax(0)
        images = torch.arange(embeddings.n)
        scores = distances[worst, images]
        if self.n_neighbors > 1:
            scores = scores * self._weight(model, layer[worst, images], indices[worst, images], scores)
        if counted is not None:
            scores = scores.where(counted.any(0), torch.nan)
        on_grid = None if counted is None else counted.T.reshape(-1, *embeddings.grid)
        maps = anomaly_maps(distances.T.reshape(-1, *embeddings.grid), self.image_size_, self.sigma, counted=on_grid)
        return Prediction.from_maps(
            maps, scores, threshold=self.threshold_, roi_masks=embeddings.roi_masks, scored_patches=on_grid
        )

    def _weight(self, model: Tensor, patches: Tensor, nearest: Tensor, distances: Tensor) -> Tensor:
        """1 − exp(d*) / Σ exp(d) over the neighborhood in the bank of the nearest patch, which is one of it.

        Exponents are taken relative to the largest: features of some backbones have distances whose exponential is
        beyond any float.
        """
        _, around = nearest_neighbors(model[nearest], model, self.n_neighbors)
        if around.shape[1] < 2:
            return torch.ones_like(distances)
        others = torch.linalg.vector_norm(model[around] - patches[:, None], dim=2)
        largest = others.amax(1, keepdim=True)
        shares = (others - largest).double().exp().sum(1)
        weight: Tensor = 1 - (distances - largest[:, 0]).double().exp() / shares
        return weight.float().clamp_min(0)

    # -- state -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        size, D = self.model_.shape
        return {**super().describe_fit(), "bank": f"{size} patches of {D} dimensions"}

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The memory bank, from which a fit can always go on."""
        return {"memory_bank": self.model_}, {}

    def restore(self, file: DetectorFile) -> Tensor:
        """The memory bank."""
        return file.arrays("memory_bank")[""]

    def scoring_network(self) -> PatchCoreNetwork:
        """Scores and maps by the memory bank."""
        grids = grids_of(self.build_backbone(), self.image_size_)[-self.levels :]
        grid = max(grids, key=lambda grid: grid[0] * grid[1])
        to_maps = AnomalyMaps(grid, self.image_size_, self.sigma)
        return PatchCoreNetwork(self.model_, self.n_neighbors, self.levels, grid, to_maps)


def _patches(embeddings: PatchEmbeddings) -> Tensor:
    """All patches of all images that count, at most (P·n, D)."""
    (layer,) = embeddings.layers
    counted = embeddings.present(embeddings.grid)
    return layer.flatten(0, 1) if counted is None else layer[counted]


class PatchCoreNetwork(nn.Module):
    """Distances to the nearest patches of a memory bank; the score is that of the worst patch, weighed."""

    memory_bank: Tensor
    shifted: Tensor
    center: Tensor
    norms: Tensor
    around: Tensor | None

    def __init__(
        self, memory_bank: Tensor, n_neighbors: int, levels: int, grid: tuple[int, int], to_maps: AnomalyMaps
    ) -> None:
        super().__init__()
        self.levels, self.grid, self.to_maps = levels, grid, to_maps
        # A common shift changes no distance, and products of small numbers lose fewer digits.
        center = memory_bank.mean(0)
        self.register_buffer("memory_bank", memory_bank)
        self.register_buffer("center", center)
        self.register_buffer("shifted", (memory_bank - center).T.contiguous())
        self.register_buffer("norms", (memory_bank - center).square().sum(1))
        around = nearest_neighbors(memory_bank, memory_bank, n_neighbors)[1] if n_neighbors > 1 else None
        self.register_buffer("around", around if around is not None and around.shape[1] > 1 else None)

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps."""
        patches = local_patches(maps[-self.levels :]).flatten(2).transpose(-1, -2)  # (N, P, D)
        nearest = (self.norms - 2 * ((patches - self.center) @ self.shifted)).argmin(2)
        # Distances by products lose digits where points are close: the one that counts is taken from the difference.
        positions, channels = self.grid[0] * self.grid[1], self.memory_bank.shape[1]
        neighbors = self.memory_bank.index_select(0, nearest.reshape(-1)).reshape(-1, positions, channels)
        distances = (patches - neighbors).square().sum(2).sqrt()
        scores, worst = distances.max(1)
        if self.around is not None:
            patch = patches.gather(1, worst.reshape(-1, 1, 1).expand(-1, 1, channels))
            index = nearest.gather(1, worst.reshape(-1, 1)).reshape(-1)
            around = self.around.index_select(0, index)
            others = self.memory_bank.index_select(0, around.reshape(-1)).reshape(-1, around.shape[1], channels)
            distant = (others - patch).square().sum(2).sqrt()
            largest = distant.amax(1, keepdim=True)
            shares = (distant - largest).exp().sum(1)
            scores = scores * (1 - (scores - largest[:, 0]).exp() / shares).clamp_min(0)
        return scores, self.to_maps(distances.reshape(-1, *self.grid))
