"""PatchCore: distances to a thinned-out memory of normal patches (Roth et al. 2022, arXiv 2106.08265)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.nearest_neighbors import nearest_neighbors
from padim_zoo.detectors.backbone_detector import BackboneDetector, Size
from padim_zoo.detectors.coreset import greedy_k_center
from padim_zoo.detectors.detector import Prediction
from padim_zoo.detectors.parameters import check_share, check_whole_number
from padim_zoo.detectors.prediction_from_maps import prediction_from_maps
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.features.anomaly_map import anomaly_maps
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.registry import detectors
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from typing_extensions import Self

PROJECTED = 128
"""Dimensions in which the coreset is chosen, as in the authors' code."""


@dataclass(frozen=True)
class LocalPatches:
    """Patches that know their neighbors (section 3.1): each layer averaged over 3 × 3 positions, on one grid.

    Attributes
    ----------
    levels : int
        The last so many layers are used.
    """

    levels: int = 2

    def apply(self, features: Features) -> PatchEmbeddings:
        """Embeddings on the grid of the finest layer in use, coarser ones interpolated."""
        patches = local_patches(features.maps[-self.levels :])
        return PatchEmbeddings.of(features.with_maps((patches,)))


def local_patches(maps: Sequence[Tensor]) -> Tensor:
    """Each layer averaged over 3 × 3 positions, on the grid of the finest one, (N, C, h, w)."""
    pooled = [avg_pool2d(layer, 3, stride=1, padding=1) for layer in maps]
    grids = [(int(layer.shape[2]), int(layer.shape[3])) for layer in pooled]
    finest = max(grids, key=lambda grid: grid[0] * grid[1])
    layers = [
        layer if grid == finest else interpolate(layer, finest, mode="bilinear", align_corners=False)
        for layer, grid in zip(pooled, grids, strict=True)
    ]
    return torch.cat(layers, 1)


@detectors.register("patchcore", source="padim_zoo", summary="Nearest of a coreset of normal patches (2106.08265)")
class PatchCore(BackboneDetector[Tensor]):
    """Nearest normal patch in a memory that holds patches of all images and positions, thinned out by a coreset.

    Parameters
    ----------
    backbone : str or Backbone
        A registered name or a :class:`~padim_zoo.backbones.backbone.Backbone`.
    coreset_ratio : float
        Share of the normal patches that is kept, in (0, 1].
    n_neighbors : int
        Patches of the memory around the nearest one that weigh the score of the image (equation 7); 1 for no weight.
    levels : int
        The last so many of the layers are used: of the usual three the second and the third, as in the paper. All
        three are extracted, so that PaDiM shares the features.
    weights, layers, seed, resize, crop, sigma, batch_size, memory, cache, device, precision, augment, passes, tta, roi
        As of :class:`~padim_zoo.detectors.backbone_parameters.BackboneParameters`.

    Attributes
    ----------
    model_ : Tensor (m, D), float32
        The memory.
    progress : callable, optional
        Told how many patches of the coreset are chosen, of how many, while it is made; None by default.
    """

    name = "patchcore"
    score_is_map_maximum = False
    scoring = frozenset({"sigma", "n_neighbors"})
    modeling = frozenset({"coreset_ratio"})

    def __init__(
        self,
        backbone: str | Backbone = "builtin",
        *,
        coreset_ratio: float = 0.1,
        n_neighbors: int = 9,
        levels: int = 2,
        weights: str = "default",
        layers: tuple[str, ...] | list[str] | None = None,
        seed: int = 0,
        resize: Size = 256,
        crop: Size = 224,
        sigma: float = 4.0,
        batch_size: int = 32,
        memory: int | None = None,
        cache: bool | Caches = False,
        device: str = "auto",
        precision: str = "auto",
        augment: str | None = None,
        passes: int | None = None,
        tta: str | None = None,
        roi: Any = None,
    ) -> None:
        super().__init__(
            backbone,
            weights=weights,
            layers=layers,
            seed=seed,
            resize=resize,
            crop=crop,
            sigma=sigma,
            batch_size=batch_size,
            memory=memory,
            cache=cache,
            device=device,
            precision=precision,
            augment=augment,
            passes=passes,
            tta=tta,
            roi=roi,
        )
        self.coreset_ratio = coreset_ratio
        self.n_neighbors = n_neighbors
        self.levels = levels
        self.progress: Callable[[int, int], None] | None = None

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        check_share("coreset_ratio", self.coreset_ratio)
        check_whole_number("n_neighbors", self.n_neighbors, 1)
        check_whole_number("levels", self.levels, 1)

    def make_embedding(self) -> LocalPatches:
        """The last layers, averaged over neighborhoods."""
        return LocalPatches(self.levels)

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
        return patches[greedy_k_center(self._projected(patches), count, self.seed, self.progress)]

    def _projected(self, patches: Tensor) -> Tensor:
        """Patches in few dimensions, in which distances are nearly the same (Johnson and Lindenstrauss)."""
        D = patches.shape[1]
        if D <= PROJECTED:
            return patches
        from sklearn.random_projection import SparseRandomProjection

        projection = SparseRandomProjection(PROJECTED, random_state=self.seed).fit(patches[:1].numpy())
        matrix = torch.from_numpy(projection.components_.toarray()).to(patches.dtype).T.contiguous()
        return patches @ matrix

    def partial_fit(self, images: Any) -> Self:
        """Fit on more normal images.

        A detector that was loaded knows only its memory: the new one is a coreset of that and of the new patches. Every
        old patch stays as near to the memory as the old coreset and the new one together allow.
        """
        if self._model is None or self.statistics_ is not None:
            return super().partial_fit(images)
        memory, seen = self._model, self.n_images_
        fresh = type(self)(**self.get_params(deep=False))
        fresh.backbone_ = self.build_backbone()
        fresh.fit(images)
        if fresh.image_size_ != self.image_size_:
            raise InputError(
                f"images of {fresh.image_size_} pixels after the transform cannot join those of {self.image_size_}: "
                "one detector needs one size; set an exact resize, or a crop"
            )
        assert isinstance(fresh.statistics_, Samples)
        self.n_images_ = seen + fresh.n_images_
        more = _patches(fresh.statistics_.embeddings)
        # The memory stands for as many patches as it is a share of.
        self._model = self._coreset(torch.cat([memory, more]), round(len(memory) / self.coreset_ratio) + len(more))
        self.calibration_ = None
        return self

    def require_statistics(self, purpose: str) -> Samples | Moments | None:
        """The samples, or None before the first fit; a model file does not hold them."""
        if self.statistics_ is None and self._model is not None:
            raise InputError(
                f"cannot {purpose}: the model file holds a coreset and not the normal images' patches; fit again"
            )
        return self.statistics_

    # -- predict -----------------------------------------------------------------------------------------------------

    def score(self, model: Tensor, embeddings: PatchEmbeddings) -> Prediction:
        """Distance of each patch to the memory; the score is that of the worst patch, weighed (equations 6 and 7)."""
        (layer,) = embeddings.layers  # (P, N, D)
        found, indices = nearest_neighbors(layer.flatten(0, 1), model)
        distances, indices = found.view(layer.shape[:2]), indices.view(layer.shape[:2])
        counted = embeddings.present(embeddings.grid)
        worst = (distances if counted is None else distances.where(counted, -1.0)).argmax(0)
        images = torch.arange(embeddings.n)
        scores = distances[worst, images]
        if self.n_neighbors > 1:
            scores = scores * self._weight(model, layer[worst, images], indices[worst, images], scores)
        if counted is not None:
            scores = scores.where(counted.any(0), torch.nan)
        known = None if counted is None else counted.T.reshape(-1, *embeddings.grid)
        maps = anomaly_maps(distances.T.reshape(-1, *embeddings.grid), self.image_size_, self.sigma, counted=known)
        return prediction_from_maps(
            maps, scores, threshold=self.threshold_, roi_masks=embeddings.roi_masks, counted=known
        )

    def _weight(self, model: Tensor, patches: Tensor, nearest: Tensor, distances: Tensor) -> Tensor:
        """1 − exp(d*) / Σ exp(d) over the neighborhood in the memory of the nearest patch, which is one of it.

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

    # -- files -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        size, dims = self.model_.shape
        return {**super().describe_fit(), "memory": f"{size} patches of {dims} dimensions"}

    def size_in_bytes(self) -> int:
        """Size of the memory."""
        return int(self.model_.numel() * self.model_.element_size())

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The memory, from which a fit can always go on."""
        return {"memory": self.model_}, {}

    def restore(self, file: DetectorFile) -> None:
        """Take over what :meth:`model_arrays` gave."""
        self._model = file.arrays("memory")[""]
        self.embedding_ = self.make_embedding()


def _patches(embeddings: PatchEmbeddings) -> Tensor:
    """All patches of all images that count, at most (P·n, D)."""
    (layer,) = embeddings.layers
    counted = embeddings.present(embeddings.grid)
    return layer.flatten(0, 1) if counted is None else layer[counted]
