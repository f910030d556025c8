"""DINOv2 and DINOv3 vision transformers as backbones: patch tokens of some blocks, as grids.

Oquab et al. 2023 (arXiv 2304.07193), with registers Darcet et al. 2023 (arXiv 2309.16588); Siméoni et al. 2025 (arXiv
2508.10104). timm has the networks and knows where their weights are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from padim_zoo.plugin import (
    Backbone,
    InputError,
    Weights,
    backbones,
    default_n_components,
    find_state,
    install,
    pretrained_state,
)


class Model(NamedTuple):
    """What is registered of a model: its name in timm, number of blocks, channels, and pixels of a patch's side."""

    timm_name: str
    depth: int
    channels: int
    patch: int


_SIZES = {"small": (12, 384), "base": (12, 768), "large": (24, 1024), "giant": (40, 1536)}

MODELS: Mapping[str, Model] = {
    **{f"dinov2-{size}": Model(f"vit_{size}_patch14_dinov2.lvd142m", *_SIZES[size], 14) for size in _SIZES},
    **{f"dinov2-{size}-reg": Model(f"vit_{size}_patch14_reg4_dinov2.lvd142m", *_SIZES[size], 14) for size in _SIZES},
    **{
        f"dinov3-{size}": Model(f"vit_{size}_patch16_dinov3.lvd1689m", *_SIZES[size], 16)
        for size in ("small", "base", "large")
    },
}
"""The models by the names that they are registered under; ``-reg`` has four registers, as all of DINOv3 have."""


def default_blocks(depth: int) -> tuple[int, ...]:
    """The blocks at half and three quarters of the depth, counted from 1.

    Early blocks mostly tell where a patch is and the last ones what the whole image shows; what a patch looks like, by
    parts, is told best in between (Amir et al. 2021, arXiv 2112.05814, section 3.2).
    """
    return (depth // 2, depth * 3 // 4)


class Tokens(nn.Module):
    """Normalized images (N, 3, H, W) to the patch tokens (N, C, round(H / patch), round(W / patch)) of some blocks.

    Images whose sides are no multiples of the patch are resized to the nearest ones. Tokens that are no patches (class,
    registers) are left out. Every block's tokens pass through the last layer norm, as in the authors' own
    ``get_intermediate_layers``: without it a few channels are hundreds of times larger than the others.
    """

    def __init__(self, model: Any, indices: Sequence[int], patch: int) -> None:
        super().__init__()
        self.model = model
        self.patch = patch
        self.indices = sorted(indices)
        self.order = [self.indices.index(index) for index in indices]

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        size = [max(1, round(side / self.patch)) * self.patch for side in (height, width)]
        if size != [height, width]:
            resized = functional.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
            images = resized.to(images.dtype)
        maps = self.model.forward_intermediates(images, indices=self.indices, norm=True, intermediates_only=True)
        return [maps[position] for position in self.order]


def dino(
    name: str,
    layers: Sequence[str] | None = None,
    weights: Weights = "default",
    *,
    model: Model | None = None,
    **options: Any,
) -> Backbone:
    """A backbone of one of :data:`MODELS`.

    Parameters
    ----------
    name : str
        The registered name.
    layers : sequence of str, optional
        Some of ``block1`` to the last; :func:`default_blocks` by default.
    weights : str, path or mapping
        ``"default"`` (timm's, downloaded at first use), ``"none"``, the path of a file of the whole model with the keys
        of timm or of the authors, or tensors by name.
    model : Model, optional
        Instead of the one that the name stands for.
    **options
        Arguments of timm's constructor, e.g. for a smaller network of random weights.

    Raises
    ------
    InputError
        If a layer does not exist, or the weights do not fit or cannot be had.
    """
    model = MODELS[name] if model is None else model
    blocks = {f"block{number}": number - 1 for number in range(1, model.depth + 1)}
    layers = _names(default_blocks(model.depth)) if layers is None else tuple(layers)
    if not layers or len(set(layers)) < len(layers) or not set(layers) <= set(blocks):
        asked = ",".join(layers) or "(none)"
        raise InputError(f"{name} has no layers {asked}: expected different ones of block1 to block{model.depth}")
    network = _build(model.timm_name, options)
    names = network.state_dict().keys()
    state, source = find_state(weights, name=name, default=lambda: pretrained_state(model.timm_name))
    if state is not None and {"mask_token", "storage_tokens"} & state.keys():  # a file of the authors
        convert: Callable[..., Mapping[str, Tensor]] = sys.modules[type(network).__module__].checkpoint_filter_fn
        state = convert(dict(state), network)
    indices = [blocks[layer] for layer in layers]
    network.prune_intermediate_layers(sorted(indices), prune_norm=False, prune_head=True)
    used = install(network, state, name=name, source=source, all_names=names)
    return Backbone(
        Tokens(network, indices, model.patch),
        name=name,
        layers=layers,
        strides=[model.patch] * len(layers),
        state=used,
        weights_source=source,
        mean=network.pretrained_cfg["mean"],
        std=network.pretrained_cfg["std"],
        example_size=(4 * model.patch, 4 * model.patch),
    )


def _build(timm_name: str, options: Mapping[str, Any]) -> Any:
    """A whole network in eval mode, for images of any size."""
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn; the caller's numbers must not depend on that
        return timm.create_model(timm_name, dynamic_img_size=True, **options).eval()


def _names(blocks: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"block{number}" for number in blocks)


for _name, _model in MODELS.items():
    _blocks = default_blocks(_model.depth)
    backbones.register(
        _name,
        summary=f"vision transformer of {_model.depth} blocks, patches of {_model.patch} pixels",
        layers=_names(_blocks),
        channels=(_model.channels,) * len(_blocks),
        strides=(_model.patch,) * len(_blocks),
        default_n_components=default_n_components((_model.channels,) * len(_blocks)),
        stages=_names(range(1, _model.depth + 1)),
    )(partial(dino, _name))
