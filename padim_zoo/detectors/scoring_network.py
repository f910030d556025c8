"""Parts of the networks that detectors give for an export: plain tensor operations, which every runtime knows."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import PRECISIONS
from padim_zoo.detectors.map_score import MapScore
from padim_zoo.features.anomaly_map import axis_matrix


def grids_of(backbone: Backbone, image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of each layer's grid for images of some size."""
    maps = backbone(torch.zeros(1, 3, *image_size, device=backbone.device))
    return [(int(layer.shape[2]), int(layer.shape[3])) for layer in maps]


class BackboneNetwork(nn.Module):
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
        """Maps of each layer, float32, of images in [0, 1]."""
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


class ScoredByMap(nn.Module):
    """A scoring network whose scores are those that a rule makes of its maps."""

    def __init__(self, scoring: nn.Module, rule: MapScore) -> None:
        super().__init__()
        self.scoring, self.rule = scoring, rule

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps."""
        _, anomaly_maps = self.scoring(maps, images)
        count = self.rule.count(int(anomaly_maps.shape[1]) * int(anomaly_maps.shape[2]))
        return anomaly_maps.flatten(1).topk(count).values.mean(1), anomaly_maps
