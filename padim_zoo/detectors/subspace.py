"""Subspace: what a patch has outside the leading directions of normal patches (SubspaceAD, arXiv 2602.23013)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.config import SubspaceConfig, check_share
from padim_zoo.detectors.layer_names import check_levels
from padim_zoo.detectors.local_patches import local_patches
from padim_zoo.detectors.merging import merge_images
from padim_zoo.detectors.model_file import STATISTICS_LEFT_OUT
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.scoring import predict_patches
from padim_zoo.detectors.scoring_network import AnomalyMaps, grids_of
from padim_zoo.detectors.storage import DetectorFile
from padim_zoo.features.features import Features, rows_of
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.registry import detectors
from padim_zoo.statistics.accumulator import refuse_to_join
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.pooled import one_place, pooled_moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class NormalSubspace:
    """An affine subspace near which normal patches lie; all in float32.

    Attributes
    ----------
    mean : Tensor (D,)
    directions : Tensor (D, r)
        Orthonormal: those of the subspace, or all others, whichever are the less work.
    outside : bool
        Whether they are the others.
    """

    movable: ClassVar[bool] = True
    mean: Tensor
    directions: Tensor
    outside: bool

    @classmethod
    def fit(cls, moments: Moments, explained_variance: float) -> NormalSubspace:
        """The leading principal directions of the patches of a single place."""
        variances, vectors = torch.linalg.eigh(moments.scatter(slice(0, 1))[0])
        variances, vectors = variances.flip(0).clamp_min(0), vectors.flip(1)
        before = variances.cumsum(0) - variances
        leading = int((before < explained_variance * variances.sum() * (1 - 1e-12)).sum())
        leading = min(leading, len(variances) - 1)
        outside = 2 * leading > len(variances) - leading
        directions = vectors[:, leading:] if outside else vectors[:, :leading]
        return cls(moments.mean[slice(0, 1)][0, 0], directions.float().contiguous(), outside)

    def distances(self, patches: Tensor) -> Tensor:
        """Distances (…) of patches (…, D) from the subspace."""
        deviations = patches - self.mean
        along = deviations @ self.directions
        # What is left is subtracted as a vector: the difference of two norms would cancel.
        left = along if self.outside else deviations - along @ self.directions.T
        return left.square().sum(-1).sqrt()

    @property
    def leading(self) -> int:
        """Directions of the subspace."""
        D, count = self.directions.shape
        return D - count if self.outside else count


@detectors.register("subspace", source="padim_zoo", summary="Residual outside one PCA of all patches (2602.23013)")
class Subspace(BackboneDetector[NormalSubspace], SubspaceConfig):
    """One mean and one PCA of the patches of all positions; a patch scores by its distance from the leading directions.

    Positions play no part, so a part may lie anywhere. The score of an image is the mean of the highest 1 % of its map.
    Embeddings are those of :class:`~padim_zoo.detectors.patchcore.PatchCore`.

    Parameters are those of :class:`~padim_zoo.detectors.config.SubspaceConfig`.

    Attributes
    ----------
    model_ : NormalSubspace
    """

    name = "subspace"
    supports_tiles = supports_sizes = supports_devices = True
    modeling = frozenset({"explained_variance"})
    not_in_file = STATISTICS_LEFT_OUT
    files_hold_samples = False

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read."""
        super().check_parameters()
        check_share("explained_variance", self.explained_variance)
        check_levels(self, self.levels, SubspaceConfig.levels)

    @property
    def draws(self) -> tuple[str, ...]:
        """Augmented views and nothing else."""
        return self.drawn_views

    # -- embed and fit -----------------------------------------------------------------------------------------------

    def embed(self, features: Features) -> PatchEmbeddings:
        """Patches that know their neighbors, on the grid of the finest of the last layers."""
        tiles = self.extractor.tile_layout(features.image_size)
        return PatchEmbeddings.of(features.with_maps((local_patches(features.maps[-self.levels :], tiles),)))

    def add_features(self, parts: Iterable[Features], earlier: Any) -> None:
        """As of every detector; to moments, the moments of the pooled patches are added."""
        if not isinstance(earlier, Moments):
            return super().add_features(parts, earlier)
        added = copy.copy(self)
        super(Subspace, added).add_features(parts, None)
        refuse_to_join(self.image_size_, added.image_size_)
        assert isinstance(added.statistics_, Samples)
        self.set_statistics(earlier + pooled_moments(added.statistics_), self.learned_images_)
        self.several_sizes |= added.several_sizes
        return None

    def fit_model(self, statistics: Samples | Moments) -> NormalSubspace:
        """The leading directions of all patches that count."""
        return NormalSubspace.fit(pooled_moments(statistics), self.explained_variance)

    def fold_models(self, samples: Samples, rests: Sequence[np.ndarray]) -> Iterator[NormalSubspace]:
        """A model of each rest, all from one pass: moments of folds add up."""
        folds: list[Moments] = []
        for rest in rests:
            held_out = samples.embeddings.images(np.setdiff1d(np.arange(samples.n), rest))
            folds.append(pooled_moments(Samples(held_out), folds[0].reference if folds else None))
        for number in range(len(folds)):
            rest_moments = reduce(add, folds[:number] + folds[number + 1 :])
            yield NormalSubspace.fit(rest_moments, self.explained_variance)

    def models_without_each(self, samples: Samples, passes: int) -> Iterator[NormalSubspace]:
        """As of every detector; the moments of one image are taken from those of all."""
        everything = pooled_moments(samples)
        for image in range(samples.n // passes):
            own = Samples(samples.embeddings.images(rows_of(np.array([image]), passes)))
            rest = everything - pooled_moments(own, everything.reference)
            yield NormalSubspace.fit(rest, self.explained_variance)

    def moments_of(self, samples: Samples, reference: PatchEmbeddings | None = None) -> Moments:
        """Moments of all patches as those of a single place."""
        return pooled_moments(samples, reference)

    def merge(self, other: Subspace) -> Self:
        """Add the images that another detector was fitted on, as if they had been fitted on here.

        Raises
        ------
        InputError
            If the detectors differ in more than their images, or either does not know its statistics; or if both
            hold moments, of which some images are the same.
        """
        merge_images(self, other, {"levels": lambda each: each.levels})
        return self

    # -- score -------------------------------------------------------------------------------------------------------

    def score_embeddings(self, model: NormalSubspace, embeddings: PatchEmbeddings) -> Prediction:
        """Maps of distances from the subspace, and their maxima."""
        (layer,) = embeddings.layers  # (P, N, D)
        grid = embeddings.grid
        counted = embeddings.present(grid)
        return predict_patches(self, model.distances(layer), grid, roi_masks=embeddings.roi_masks, counted=counted)

    # -- state -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        model = self.model_
        return {**super().describe_fit(), "subspace": f"{model.leading} of {len(model.mean)} directions are normal"}

    def model_arrays(self, *, resumable: bool, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Mean and directions; where asked for, moments too (8·D² bytes)."""
        model = self.model_
        arrays = {"subspace.mean": model.mean, "subspace.directions": model.directions}
        own: dict[str, Any] = {"outside": model.outside}
        if resumable:
            statistics = self.require_statistics("save a resumable model")
            assert statistics is not None
            moments = pooled_moments(statistics)
            arrays |= {f"moments.{name}": array for name, array in moments.arrays().items()}
            arrays["reference"], own["patches"] = moments.reference.layers[0][0], moments.n
        return arrays, own

    def restore(self, file: DetectorFile) -> NormalSubspace:
        """Mean and directions; sets the moments that a resumable file holds."""
        moments = file.arrays("moments.")
        if moments:
            reference = one_place(file.arrays("reference")[""])
            self.statistics_ = Moments.from_arrays(file.header["patches"], reference, moments)
        return NormalSubspace(**file.arrays("subspace."), outside=file.header["outside"])

    def scoring_network(self) -> SubspaceNetwork:
        """Scores and maps by the subspace."""
        grids = grids_of(self.build_backbone(), self.image_size_)[-self.levels :]
        grid = max(grids, key=lambda grid: grid[0] * grid[1])
        return SubspaceNetwork(self.model_, self.levels, AnomalyMaps(grid, self.image_size_, self.sigma), grid)


class SubspaceNetwork(nn.Module):
    """Distances of patches from a subspace, their map, and its maximum."""

    mean: Tensor
    directions: Tensor

    def __init__(self, model: NormalSubspace, levels: int, to_maps: AnomalyMaps, grid: tuple[int, int]) -> None:
        super().__init__()
        self.levels, self.to_maps, self.grid, self.outside = levels, to_maps, grid, model.outside
        self.register_buffer("mean", model.mean)
        self.register_buffer("directions", model.directions)

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps."""
        patches = local_patches(maps[-self.levels :]).flatten(2).transpose(-1, -2)  # (N, P, D)
        distances = NormalSubspace(self.mean, self.directions, self.outside).distances(patches)
        anomaly_maps = self.to_maps(distances.reshape(-1, *self.grid))
        return anomaly_maps.amax((1, 2)), anomaly_maps
