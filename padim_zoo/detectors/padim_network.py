"""PaDiM's scores as a network: channels chosen or projected, distances, their map, and its maximum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.scoring_network import AnomalyMaps, grids_of
from padim_zoo.features.features import RandomChannels, Reduction, SemiOrthogonal, nearest_positions
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.gaussian import Gaussian

if TYPE_CHECKING:
    from padim_zoo.detectors.padim import PaDiM


def padim_network(detector: PaDiM) -> PaDiMNetwork:
    """The network of a fitted detector.

    Raises
    ------
    InputError
        If Gaussians do not cover all patches, or images are moved, or the reduction is of a kind that has no module.
    """
    if detector.register is not None:
        raise InputError(
            "a detector with register cannot be exported: a network does not search for the pose of a part; fit "
            "without it, or bring images to one pose before"
        )
    mean, size = detector.gaussian_.mean, detector.image_size_
    if mean.subset is not None:
        raise InputError(
            "a detector that was fitted with regions of interest cannot be exported: its Gaussians do not cover "
            "all patches, and a network scores a whole image"
        )
    backbone = detector.build_backbone()
    embed, grids = embedding_network(detector.reduction_, backbone, size), grids_of(backbone, size)
    if len(mean.grids) == 1 < len(grids) and not isinstance(embed, Projection):  # Gaussians of trimmed patches
        embed = nn.Sequential(embed, OneGrid(grids, mean.grid))
    return PaDiMNetwork(embed, detector.gaussian_, AnomalyMaps(mean.grid, size, detector.sigma, detector.pad_mode))


class PaDiMNetwork(nn.Module):
    """Mahalanobis distances of patches, their map, and its maximum.

    Parameters
    ----------
    embed : Module
        Maps of the backbone to embeddings, (positions, N, channels) of each layer: :func:`embedding_network`.
    gaussian : Gaussian
        At every patch of the grid.
    to_maps : AnomalyMaps
    """

    def __init__(self, embed: nn.Module, gaussian: Gaussian, to_maps: AnomalyMaps) -> None:
        super().__init__()
        self.embed = embed
        self.distances = GaussianDistances(gaussian)
        self.to_maps = to_maps
        self.grid = gaussian.mean.grid

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps."""
        distances = self.distances(self.embed(maps)).sqrt()
        anomaly_maps = self.to_maps(distances.T.reshape(-1, *self.grid))
        return anomaly_maps.amax((1, 2)), anomaly_maps


class GaussianDistances(nn.Module):
    """Squared distances (P, N) of embeddings, given as (positions, N, channels) of each layer.

    They are computed as the Gaussians compute them, in float64 where these do. An export puts a form of float32 in
    place of this module: :mod:`padim_zoo.export.distances`.
    """

    def __init__(self, gaussian: Gaussian) -> None:
        super().__init__()
        self.gaussian = gaussian

    def forward(self, layers: list[Tensor]) -> Tensor:
        """At all patches."""
        mean = self.gaussian.mean
        return self.gaussian.squared_distances(PatchEmbeddings(tuple(layers), mean.grids, mean.grid))


def embedding_network(reduction: Reduction, backbone: Backbone, image_size: tuple[int, int]) -> nn.Module:
    """A reduction as a module.

    Raises
    ------
    InputError
        If there is no module for a reduction of its kind.
    """
    if isinstance(reduction, SemiOrthogonal):
        return Projection(reduction, backbone.channels, grids_of(backbone, image_size))
    if isinstance(reduction, RandomChannels):
        return ChannelChoice(reduction)
    raise InputError(f"a reduction {type(reduction).__name__} cannot be exported: use another")


class ChannelChoice(nn.Module):
    """Some channels of each layer, (positions, N, channels)."""

    def __init__(self, reduction: RandomChannels) -> None:
        super().__init__()
        for number, channels in enumerate(reduction.channels):
            self.register_buffer(f"channels{number}", torch.from_numpy(channels))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Of all layers."""
        return [_rows(layer.index_select(1, getattr(self, f"channels{number}"))) for number, layer in enumerate(maps)]


class OneGrid(nn.Module):
    """All layers on the patch grid, as a single one: (P, N, D)."""

    def __init__(self, grids: Sequence[tuple[int, int]], grid: tuple[int, int]) -> None:
        super().__init__()
        for number, own in enumerate(grids):
            self.register_buffer(f"at{number}", nearest_positions(own, grid))

    def forward(self, layers: list[Tensor]) -> list[Tensor]:
        """Of the layers, (positions, N, channels) each."""
        own = [layer.index_select(0, getattr(self, f"at{number}")) for number, layer in enumerate(layers)]
        return [torch.cat(own, 2)]


class Projection(nn.Module):
    """All channels of all layers projected, on the finest grid: one layer (P, N, D)."""

    def __init__(self, reduction: SemiOrthogonal, channels: Sequence[int], grids: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        finest = max(grids, key=lambda grid: grid[0] * grid[1])
        for number, (part, grid) in enumerate(zip(torch.split(reduction.matrix, list(channels)), grids, strict=True)):
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
