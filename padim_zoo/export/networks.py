"""Fitted detectors as modules of plain tensor operations: uint8 images in; scores, maps and decisions out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import PRECISIONS
from padim_zoo.core.errors import InputError
from padim_zoo.core.nearest_neighbors import nearest_neighbors
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.mahalanobis_ad import MahalanobisAD, StageGaussian
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.detectors.patchcore import PatchCore, local_patches
from padim_zoo.detectors.stfpm import STFPM
from padim_zoo.export.distances import distances_of
from padim_zoo.export.pixels import Pixels
from padim_zoo.features.anomaly_map import axis_matrix
from padim_zoo.features.patch_embeddings import nearest_positions
from padim_zoo.features.reduction import RandomChannels, SemiOrthogonal
from padim_zoo.gaussians.gaussian import Gaussian


class Found(NamedTuple):
    """What a head says of N images: scores (N,), and maps (N, H, W) or None."""

    scores: Tensor
    maps: Tensor | None


class ExportableNetwork(nn.Module):
    """A detector whole, of operations that exporters and runtimes know.

    Parameters
    ----------
    pixels : Pixels
        uint8 images (N, H, W, 3) to float images in [0, 1].
    head : Module
        These to :class:`Found`.
    threshold : float, optional
        Scores above it are anomalous.
    """

    def __init__(self, pixels: Pixels, head: nn.Module, threshold: float | None) -> None:
        super().__init__()
        self.pixels = pixels
        self.head = head
        self.threshold = threshold

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``scores`` (N,), ``maps`` (N, H, W) where there are any, ``anomalous`` (N,) where there is a threshold."""
        scores, maps = self.head(self.pixels(images))
        found = {"scores": scores}
        if maps is not None:
            found["maps"] = maps
        if self.threshold is not None:
            found["anomalous"] = scores > self.threshold
        return found


class FeatureMaps(nn.Module):
    """A backbone's forward without its safeguards: normalization, and the network in its own precision."""

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone, precision: str) -> None:
        super().__init__()
        self.dtype = PRECISIONS[precision]
        # A copy, because exporters want weights in the plain memory layout: OpenVINO's misreads others in bfloat16.
        self.network = copy.deepcopy(backbone.network).cpu().to(self.dtype).to(memory_format=torch.contiguous_format)
        self.register_buffer("scale", 1 / torch.tensor(backbone.std).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor(backbone.mean).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of each layer, float32."""
        maps = self.network(((images - self.shift) * self.scale).to(self.dtype))
        return [layer.float() for layer in maps]


class AnomalyMaps(nn.Module):
    """Values of patches (N, h, w) upsampled and blurred."""

    rows: Tensor
    columns: Tensor

    def __init__(
        self, grid: tuple[int, int], image_size: tuple[int, int], sigma: float, edges: str = "symmetric"
    ) -> None:
        super().__init__()
        self.register_buffer("rows", axis_matrix(grid[0], image_size[0], sigma, edges))
        self.register_buffer("columns", axis_matrix(grid[1], image_size[1], sigma, edges).T.contiguous())

    def forward(self, values: Tensor) -> Tensor:
        """Maps (N, H, W)."""
        return self.rows @ values @ self.columns


class ChosenChannels(nn.Module):
    """Some channels of each layer, (positions, N, channels)."""

    def __init__(self, reduction: RandomChannels) -> None:
        super().__init__()
        for number, kept in enumerate(reduction.channels):
            self.register_buffer(f"kept{number}", torch.from_numpy(kept))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Of all layers."""
        return [_rows(layer.index_select(1, getattr(self, f"kept{number}"))) for number, layer in enumerate(maps)]


class Projection(nn.Module):
    """All channels of all layers projected, on the finest grid: one layer (P, N, D)."""

    def __init__(self, reduction: SemiOrthogonal, maps: list[Tensor]) -> None:
        super().__init__()
        grids = [(int(layer.shape[2]), int(layer.shape[3])) for layer in maps]
        finest = max(grids, key=lambda grid: grid[0] * grid[1])
        parts = torch.split(reduction.matrix, [int(layer.shape[1]) for layer in maps])
        for number, (part, grid) in enumerate(zip(parts, grids, strict=True)):
            self.register_buffer(f"matrix{number}", part.contiguous())
            self.register_buffer(f"at{number}", nearest_positions(grid, finest))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """The sum of the layers' projections."""
        projected = [
            (_rows(layer) @ getattr(self, f"matrix{number}")).index_select(0, getattr(self, f"at{number}"))
            for number, layer in enumerate(maps)
        ]
        return [torch.stack(projected).sum(0)]


def _rows(layer: Tensor) -> Tensor:
    """A map (N, C, h, w) by positions, (h·w, N, C)."""
    return layer.flatten(2).permute(2, 0, 1)


class PaDiMHead(nn.Module):
    """Mahalanobis distances of patches, their map, and its maximum."""

    def __init__(self, detector: PaDiM, features: FeatureMaps) -> None:
        super().__init__()
        gaussian, reduction = detector.gaussian_, detector.reduction_
        self.features = features
        if isinstance(reduction, SemiOrthogonal):
            self.embed: nn.Module = Projection(reduction, _example_maps(features, detector.image_size_))
        elif isinstance(reduction, RandomChannels):
            self.embed = ChosenChannels(reduction)
        else:
            raise InputError(f"a reduction {type(reduction).__name__} cannot be exported: use another")
        for number, layer in enumerate(gaussian.mean.layers):
            self.register_buffer(f"mean{number}", layer.float())
        self.distances = distances_of(gaussian)
        self.grid = gaussian.mean.grid
        self.to_maps = AnomalyMaps(self.grid, detector.image_size_, detector.sigma, detector.pad_mode)

    def forward(self, images: Tensor) -> Found:
        """Of images in [0, 1]."""
        embeddings = self.embed(self.features(images))
        deviations = [layer - getattr(self, f"mean{number}") for number, layer in enumerate(embeddings)]
        distances = self.distances(deviations).sqrt()
        maps = self.to_maps(distances.T.reshape(-1, *self.grid))
        return Found(maps.amax((1, 2)), maps)


class PatchCoreHead(nn.Module):
    """Distances to the nearest patches of a memory; the score is that of the worst patch, weighed."""

    memory: Tensor
    shifted: Tensor
    center: Tensor
    norms: Tensor
    around: Tensor | None

    def __init__(self, detector: PatchCore, features: FeatureMaps) -> None:
        super().__init__()
        memory = detector.model_
        self.features = features
        self.levels = detector.levels
        example = local_patches(_example_maps(features, detector.image_size_)[-self.levels :])
        self.grid = int(example.shape[2]), int(example.shape[3])
        self.to_maps = AnomalyMaps(self.grid, detector.image_size_, detector.sigma)
        # A common shift changes no distance, and products of small numbers lose fewer digits.
        center = memory.mean(0)
        self.register_buffer("memory", memory)
        self.register_buffer("center", center)
        self.register_buffer("shifted", (memory - center).T.contiguous())
        self.register_buffer("norms", (memory - center).square().sum(1))
        around = nearest_neighbors(memory, memory, detector.n_neighbors)[1] if detector.n_neighbors > 1 else None
        self.register_buffer("around", around if around is not None and around.shape[1] > 1 else None)

    def forward(self, images: Tensor) -> Found:
        """Of images in [0, 1]."""
        patches = local_patches(self.features(images)[-self.levels :]).flatten(2).transpose(-1, -2)  # (N, P, D)
        nearest = (self.norms - 2 * ((patches - self.center) @ self.shifted)).argmin(2)
        # Distances by products lose digits where points are close: the one that counts is taken from the difference.
        positions, channels = self.grid[0] * self.grid[1], self.memory.shape[1]
        found = self.memory.index_select(0, nearest.reshape(-1)).reshape(-1, positions, channels)
        distances = (patches - found).square().sum(2).sqrt()
        scores, worst = distances.max(1)
        if self.around is not None:
            patch = patches.gather(1, worst.reshape(-1, 1, 1).expand(-1, 1, channels))
            index = nearest.gather(1, worst.reshape(-1, 1)).reshape(-1)
            around = self.around.index_select(0, index)
            others = self.memory.index_select(0, around.reshape(-1)).reshape(-1, around.shape[1], channels)
            distant = (others - patch).square().sum(2).sqrt()
            largest = distant.amax(1, keepdim=True)
            shares = (distant - largest).exp().sum(1)
            scores = scores * (1 - (scores - largest[:, 0]).exp() / shares).clamp_min(0)
        return Found(scores, self.to_maps(distances.reshape(-1, *self.grid)))


class MahalanobisADHead(nn.Module):
    """The sum of the distances of the averages of all layers."""

    def __init__(self, detector: MahalanobisAD, features: FeatureMaps) -> None:
        super().__init__()
        self.features = features
        self.stages = nn.ModuleList(_Stage(gaussian) for gaussian in detector.model_)

    def forward(self, images: Tensor) -> Found:
        """Of images in [0, 1]; there are no maps."""
        averages = [layer.mean((2, 3)) for layer in self.features(images)]
        squared = [stage(average) for stage, average in zip(self.stages, averages, strict=True)]
        return Found(torch.stack(squared).sqrt().sum(0), None)


class _Stage(nn.Module):
    mean: Tensor
    directions: Tensor
    weights: Tensor
    rest: Tensor

    def __init__(self, gaussian: StageGaussian) -> None:
        super().__init__()
        for name, array in gaussian.arrays().items():
            self.register_buffer(name, array.float())

    def forward(self, vectors: Tensor) -> Tensor:
        deviations = vectors - self.mean
        along = deviations @ self.directions
        left = (deviations - along @ self.directions.T).square().sum(1)
        return (along.square() * self.weights).sum(1) + self.rest * left


class STFPMHead(nn.Module):
    """The product over the layers of half the squared distance of normalized features, and its maximum."""

    def __init__(self, detector: STFPM, features: FeatureMaps) -> None:
        super().__init__()
        self.teacher = features
        self.student = FeatureMaps(detector.model_.network, "float32")
        grids = [(int(layer.shape[2]), int(layer.shape[3])) for layer in _example_maps(features, detector.image_size_)]
        self.to_maps = nn.ModuleList(AnomalyMaps(grid, detector.image_size_, 0.0) for grid in grids)

    def forward(self, images: Tensor) -> Found:
        """Of images in [0, 1]."""
        product: Tensor | None = None
        for t, s, to_map in zip(self.teacher(images), self.student(images), self.to_maps, strict=True):
            layer = to_map((normalize(t, dim=1) - normalize(s, dim=1)).square().sum(1) / 2)
            product = layer if product is None else product * layer
        assert product is not None
        return Found(product.amax((1, 2)), product)


@torch.no_grad()
def _example_maps(features: FeatureMaps, image_size: tuple[int, int]) -> list[Tensor]:
    maps: list[Tensor] = features(torch.zeros(1, 3, *image_size))
    return maps


HEADS: Mapping[type[Detector], Callable[[Any, FeatureMaps], nn.Module]] = {
    PaDiM: PaDiMHead,
    PatchCore: PatchCoreHead,
    MahalanobisAD: MahalanobisADHead,
    STFPM: STFPMHead,
}
"""How a detector is rebuilt, by its class."""


def exportable(
    detector: Detector, *, precision: str | None = None, size: tuple[int, int] | None = None
) -> ExportableNetwork:
    """A fitted detector as one network.

    Parameters
    ----------
    detector : Detector
    precision : str, optional
        Of the backbone; the detector's own by default.
    size : tuple of int, optional
        Height and width of the images, which are then resized and cropped by the network; by default it takes images
        after the transform.

    Raises
    ------
    InputError
        If the detector is of a kind that cannot be exported, or is not fitted.
    """
    head = HEADS.get(type(detector))
    if head is None or not isinstance(detector, BackboneDetector):
        names = ", ".join(kind.name for kind in HEADS if issubclass(kind, BackboneDetector))
        name = getattr(detector, "name", type(detector).__name__)
        raise InputError(f"a detector {name} cannot be exported: expected one of {names}")
    for option in ("tta", "roi"):
        if getattr(detector, option, None) is not None:
            raise InputError(
                f"a detector with {option} cannot be exported: a network scores one whole view of an image"
            )
    if isinstance(detector.model_, Gaussian) and detector.model_.mean.subset is not None:
        raise InputError(
            "a detector that was fitted with regions of interest cannot be exported: its Gaussians do not cover all "
            "patches, and a network scores a whole image"
        )
    backbone = detector.build_backbone()
    wanted = precision or backbone.precision
    if wanted not in PRECISIONS:
        raise InputError(f"unknown precision {wanted!r}: expected {', '.join(PRECISIONS)}")
    features = FeatureMaps(in_float32(backbone) if wanted == "float32" else backbone, wanted)
    return (
        ExportableNetwork(Pixels(detector.transform, size), head(detector, features), detector.threshold_)
        .eval()
        .requires_grad_(False)
    )


def in_float32(backbone: Backbone) -> Backbone:
    """A backbone that computes in float32, of the same weights."""
    if backbone.precision == "float32":
        return backbone
    made: Backbone = registry.backbones.create(backbone.name, layers=backbone.layers, weights=backbone.state_in_use())
    return made
