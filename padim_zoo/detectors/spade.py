"""SPADE: distances to the most similar normal images, and to their positions (Cohen and Hoshen, arXiv 2005.02357)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.backbones.stages import default_layers, stages
from padim_zoo.core.nearest_neighbors import nearest_neighbors
from padim_zoo.core.progress import told
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.config import SPADEConfig, check_whole_number
from padim_zoo.detectors.feature_extractor import FeatureExtractor
from padim_zoo.detectors.layer_names import check_levels
from padim_zoo.detectors.model_file import embeddings_of, numbered
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.scoring import embed_to_score
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.features.anomaly_map import anomaly_maps
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings, masked_mean
from padim_zoo.registry import detectors
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples


class PyramidExtractor(FeatureExtractor):
    """The usual layers and the last stage."""

    @staticmethod
    def layers_wanted(backbone: str) -> tuple[str, ...] | None:
        """The usual layers, which make the map, and the last stage, which finds the images."""
        return tuple(dict.fromkeys([*default_layers(backbone), *stages(backbone)[-1:]])) or None


@detectors.register("spade", source="padim_zoo", summary="Nearest normal images and their positions (2005.02357)")
class SPADE(BackboneDetector[PatchEmbeddings], SPADEConfig):
    """Semantic pyramid anomaly detection: k nearest normal images, then nearest positions among theirs.

    The score of an image is the mean distance of its averaged last layer to those of the k nearest normal images. The
    anomaly map is, for each layer, the distance of each position to the nearest of all positions of those images;
    upsampled, averaged over the layers and blurred.

    Parameters are those of :class:`~padim_zoo.detectors.config.SPADEConfig`.

    Attributes
    ----------
    model_ : PatchEmbeddings
        The gallery: the features of all normal images.
    """

    name = "spade"
    supports_tiles = True
    extractor_type = PyramidExtractor
    score_is_map_maximum = False
    scoring = frozenset({"sigma", "n_neighbors"})

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        check_whole_number("n_neighbors", self.n_neighbors, 1)
        check_levels(self, self.levels, SPADEConfig.levels)

    @property
    def draws(self) -> tuple[str, ...]:
        """Augmented views and nothing else."""
        return self.drawn_views

    def embed(self, features: Features) -> PatchEmbeddings:
        """The maps of the first layers, and the average of the last as a layer (1, n, C) of a single position."""
        image = masked_mean(features.maps[-1], features.roi_masks)
        return PatchEmbeddings.of(features.with_maps((*features.maps[: self.levels], image)))

    def fit_model(self, statistics: Samples | Moments) -> PatchEmbeddings:
        """The gallery is all that there is to a fit."""
        assert isinstance(statistics, Samples)
        return statistics.embeddings

    def require_statistics(self, purpose: str) -> Samples | None:
        """The gallery, or None before the first fit."""
        return None if self.made_model is None and self.statistics_ is None else Samples(self.model_)

    def score_features(self, features: Features) -> np.ndarray:
        """Mean distances to the nearest images, without the maps, which take a thousand times as long."""
        if self.map_score is not None or features.roi_masks is not None or self.extractor.views.of_score.count > 1:
            return super().score_features(features)
        distances, _, shown = self._nearest_images(self.model_, embed_to_score(self, features))
        return distances.mean(1).where(shown, torch.nan).numpy()

    def _nearest_images(self, model: PatchEmbeddings, embeddings: PatchEmbeddings) -> tuple[Tensor, Tensor, Tensor]:
        """Distances (N, k) to the nearest normal images, which these are (N, k), and whether there is anything (N,)."""
        vectors = embeddings.layers[-1][0]
        shown = ~vectors.isnan().any(1)  # a view may show nothing of what counts
        return *nearest_neighbors(vectors.nan_to_num(), model.layers[-1][0], self.n_neighbors), shown

    def score_embeddings(self, model: PatchEmbeddings, embeddings: PatchEmbeddings) -> Prediction:
        """Mean distance to the nearest images; distances of positions to the nearest of those images' positions."""
        distances, nearest, shown = self._nearest_images(model, embeddings)
        levels = list(zip(embeddings.layers, model.layers, embeddings.grids, strict=True))[:-1]
        counted = [(embeddings.present(grid), model.present(grid)) for _, _, grid in levels]
        maps, tiles = torch.zeros(embeddings.n, *self.image_size_), self.tile_layout
        for (layer, gallery, grid), (here, there) in zip(levels, counted, strict=True):
            for image in told(shown.nonzero().flatten().tolist(), "comparing maps", int(shown.sum()), "maps"):
                normal = gallery[:, nearest[image]]
                positions = normal.flatten(0, 1) if there is None else normal[there[:, nearest[image]]]
                rows = slice(None) if here is None else here[:, image]
                of_positions = torch.zeros(len(layer))
                of_positions[rows] = nearest_neighbors(layer[rows, image], positions)[0][:, 0]
                on_grid = None if here is None else here[:, image].view(1, *grid)
                of_grid = of_positions.view(1, *grid)
                maps[image] += anomaly_maps(of_grid, self.image_size_, self.sigma, counted=on_grid, tiles=tiles)[0]
        return Prediction.from_maps(
            maps / len(levels),
            distances.mean(1).where(shown, torch.nan),
            threshold=self.threshold_,
            roi_masks=embeddings.roi_masks,
            tiles=tiles,
        )

    # -- state -------------------------------------------------------------------------------------------------------

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The gallery, from which a fit can always go on."""
        arrays, own = numbered("gallery", self.model_), {"grids": self.model_.grids}
        if self.model_.roi_masks is not None:
            arrays["roi_masks"] = torch.from_numpy(np.packbits(self.model_.roi_masks.numpy(), axis=None))
        return arrays, own

    def restore(self, file: DetectorFile) -> PatchEmbeddings:
        """The gallery."""
        gallery = embeddings_of(file.arrays("gallery."), file.header["grids"])
        packed = file.arrays("roi_masks").get("")
        if packed is None:
            return gallery
        tiles = self.tile_layout
        shape = (gallery.n, *(self.image_size_ if tiles is None else tiles.mosaic_size))
        counted = np.unpackbits(packed.numpy(), count=math.prod(shape)).reshape(shape).astype(bool)
        return replace(gallery, roi_masks=torch.from_numpy(counted))
