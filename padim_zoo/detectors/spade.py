"""SPADE: distances to the most similar normal images, and to their positions (Cohen and Hoshen, arXiv 2005.02357)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.stages import default_layers, stages
from padim_zoo.cache.caches import Caches
from padim_zoo.core.nearest_neighbors import nearest_neighbors
from padim_zoo.detectors.backbone_detector import BackboneDetector, Size, embeddings_of, numbered
from padim_zoo.detectors.detector import Prediction
from padim_zoo.detectors.parameters import check_whole_number
from padim_zoo.detectors.prediction_from_maps import prediction_from_maps
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.features.anomaly_map import anomaly_maps
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings, masked_mean
from padim_zoo.registry import detectors
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples


@dataclass(frozen=True)
class Pyramid:
    """The maps of the first layers, and the average of the last one as a layer of a single position.

    Attributes
    ----------
    levels : int
        Layers whose maps are compared.
    """

    levels: int = 3

    def apply(self, features: Features) -> PatchEmbeddings:
        """Embeddings whose last layer (1, n, C) describes whole images."""
        maps = features.maps[: self.levels]
        image = masked_mean(features.maps[-1], features.roi_masks)
        return PatchEmbeddings.of(features.with_maps((*maps, image)))


@detectors.register("spade", source="padim_zoo", summary="Nearest normal images and their positions (2005.02357)")
class SPADE(BackboneDetector[PatchEmbeddings]):
    """Semantic pyramid anomaly detection: k nearest normal images, then nearest positions among theirs.

    The score of an image is the mean distance of its averaged last layer to those of the k nearest normal images. The
    anomaly map is, for each layer, the distance of each position to the nearest of all positions of those images;
    upsampled, averaged over the layers and blurred.

    Parameters
    ----------
    backbone : str or Backbone
        A registered name or a :class:`~padim_zoo.backbones.backbone.Backbone`.
    n_neighbors : int
        Normal images to compare with, k of the paper; all, where there are fewer.
    levels : int
        The first so many of the layers make the map.
    weights, layers, seed, resize, crop, sigma, batch_size, memory, cache, device, precision, augment, passes, tta, roi
        As of :class:`~padim_zoo.detectors.backbone_parameters.BackboneParameters`. ``layers`` are by default the
        backbone's usual three, which make the map, and its last stage, which finds the images.

    Attributes
    ----------
    model_ : PatchEmbeddings
        The gallery: the features of all normal images.
    """

    name = "spade"
    score_is_map_maximum = False
    scoring = frozenset({"sigma", "n_neighbors"})

    def __init__(
        self,
        backbone: str | Backbone = "builtin",
        *,
        n_neighbors: int = 50,
        levels: int = 3,
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
        self.n_neighbors = n_neighbors
        self.levels = levels

    @classmethod
    def layers_wanted(cls, backbone: str) -> tuple[str, ...] | None:
        """The usual layers and the last stage."""
        usual = default_layers(backbone)
        return tuple(dict.fromkeys([*usual, *stages(backbone)[-1:]])) or None

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        check_whole_number("n_neighbors", self.n_neighbors, 1)
        check_whole_number("levels", self.levels, 1)

    def make_embedding(self) -> Pyramid:
        """The first layers, and the average of the last."""
        return Pyramid(self.levels)

    def fit_model(self, statistics: Samples | Moments) -> PatchEmbeddings:
        """The gallery is all that there is to a fit."""
        assert isinstance(statistics, Samples)
        return statistics.embeddings

    def require_statistics(self, purpose: str) -> Samples | None:
        """The gallery, or None before the first fit."""
        return None if self._model is None and self.statistics_ is None else Samples(self.model_)

    def score(self, model: PatchEmbeddings, embeddings: PatchEmbeddings) -> Prediction:
        """Mean distance to the nearest images; distances of positions to the nearest of those images' positions."""
        vectors = embeddings.layers[-1][0]
        shown = ~vectors.isnan().any(1)  # a view may show nothing of what counts
        found, nearest = nearest_neighbors(vectors.nan_to_num(), model.layers[-1][0], self.n_neighbors)
        levels = list(zip(embeddings.layers, model.layers, embeddings.grids, strict=True))[:-1]
        counted = [(embeddings.present(grid), model.present(grid)) for _, _, grid in levels]
        maps = torch.zeros(embeddings.n, *self.image_size_)
        for (layer, gallery, grid), (here, there) in zip(levels, counted, strict=True):
            for image in shown.nonzero().flatten().tolist():
                chosen = nearest[image]
                positions = gallery[:, chosen].flatten(0, 1) if there is None else gallery[:, chosen][there[:, chosen]]
                known = slice(None) if here is None else here[:, image]
                distances = torch.zeros(len(layer))
                distances[known] = nearest_neighbors(layer[known, image], positions)[0][:, 0]
                maps[image] += anomaly_maps(
                    distances.view(1, *grid),
                    self.image_size_,
                    self.sigma,
                    counted=None if here is None else here[:, image].view(1, *grid),
                )[0]
        return prediction_from_maps(
            maps / len(levels),
            found.mean(1).where(shown, torch.nan),
            threshold=self.threshold_,
            roi_masks=embeddings.roi_masks,
        )

    # -- files -------------------------------------------------------------------------------------------------------

    def size_in_bytes(self) -> int:
        """Size of the gallery."""
        return self.model_.size_in_bytes()

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The gallery, from which a fit can always go on."""
        arrays, own = numbered("gallery", self.model_), {"grids": self.model_.grids}
        if self.model_.roi_masks is not None:
            arrays["regions"] = torch.from_numpy(np.packbits(self.model_.roi_masks.numpy(), axis=None))
        return arrays, own

    def restore(self, file: DetectorFile) -> None:
        """Take over what :meth:`model_arrays` gave."""
        self._model = embeddings_of(file.arrays("gallery."), file.header["grids"])
        packed = file.arrays("regions").get("")
        if packed is not None:
            shape = (self._model.n, *self.image_size_)
            counted = np.unpackbits(packed.numpy(), count=math.prod(shape)).reshape(shape).astype(bool)
            self._model = replace(self._model, roi_masks=torch.from_numpy(counted))
        self.embedding_ = self.make_embedding()
