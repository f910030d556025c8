"""Local frequencies as a backbone: discrete cosine transforms of overlapping blocks, as in JPEG, at two scales."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from padim_zoo.plugin import Backbone, InputError, Weights, backbones, find_state, install

BLOCKS = {"fine": 8, "coarse": 16}  # pixels of a block; a layer's grid has a step of half a block
FREQUENCIES = [(u, v) for u in range(5) for v in range(5) if u + v <= 4]


class BlockFrequencies(nn.Module):
    """Normalized images (N, 3, H, W) to the magnitudes of 15 frequencies of each color, (N, 45, H_l, W_l) a layer."""

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict({layer: cosines(BLOCKS[layer]) for layer in layers})

    def forward(self, images: Tensor) -> list[Tensor]:
        return [convolution(images).abs().add(0.1).log() for convolution in self.convolutions.values()]


def cosines(size: int) -> nn.Conv2d:
    """Products of a horizontal and a vertical cosine, by a convolution that takes each color by itself."""
    steps = (torch.arange(size) + 0.5) * math.pi / size
    waves = torch.stack([torch.cos(u * steps)[:, None] * torch.cos(v * steps) for u, v in FREQUENCIES])
    filters = (waves / size).float().repeat(3, 1, 1)[:, None]
    convolution = nn.Conv2d(3, len(filters), size, stride=size // 2, padding=size // 4, groups=3, bias=False)
    convolution.weight = nn.Parameter(filters)
    return convolution


@backbones.register("dct", layers=tuple(BLOCKS), channels=(45, 45), strides=(4, 8), weights_offline=True)
def dct(layers: Sequence[str] | None = None, weights: Weights = "default") -> Backbone:
    """Magnitudes of local frequencies; needs no download."""
    layers = tuple(BLOCKS if layers is None else layers)
    if not layers or not set(layers) <= set(BLOCKS):
        raise InputError(f"dct has no layers {','.join(layers)}: expected some of {', '.join(BLOCKS)}")
    network = BlockFrequencies(layers)
    state, source = find_state(weights, name="dct", default=network.state_dict)
    used = install(network, state, name="dct", source=source)
    strides = [BLOCKS[layer] // 2 for layer in layers]
    return Backbone(network, name="dct", layers=layers, strides=strides, state=used, weights_source=source)
