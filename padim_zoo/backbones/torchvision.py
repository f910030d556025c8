"""Backbones of torchvision: the resnets of the paper by name, every other classifier as ``torchvision/…``."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from padim_zoo.backbones.backbone import Backbone, describe_layers
from padim_zoo.backbones.layer_cut import cut_network
from padim_zoo.backbones.stages import check_layers
from padim_zoo.backbones.state_dict import State
from padim_zoo.backbones.undrawn import Undrawn
from padim_zoo.backbones.weights import Weights, find_state, install, require_connection
from padim_zoo.core.errors import InputError
from padim_zoo.registry import backbones

# What a listing says of them, channels and file of weights: to ask torchvision takes seconds.
RESNETS = {
    "resnet18": ((64, 128, 256), "resnet18-f37072fd.pth"),
    "resnet34": ((64, 128, 256), "resnet34-b627a593.pth"),
    "resnet50": ((256, 512, 1024), "resnet50-0676ba61.pth"),
    "resnet101": ((256, 512, 1024), "resnet101-63fe2227.pth"),
    "resnet152": ((256, 512, 1024), "resnet152-394f9c45.pth"),
    "wide_resnet50_2": ((256, 512, 1024), "wide_resnet50_2-95faca4d.pth"),
    "wide_resnet101_2": ((256, 512, 1024), "wide_resnet101_2-32ee1156.pth"),
}
_STRIDES = (4, 8, 16)
# Their constructors draw slowly and build heads of no use; their default weights expect this renormalization.
_INCEPTIONS = ("googlenet", "inception_v3")
_INCEPTION_OPTIONS = {"init_weights": False, "aux_logits": False, "transform_input": True}


def create(
    architecture: str,
    layers: Sequence[str] | None = None,
    weights: Weights = "default",
    *,
    name: str | None = None,
) -> Backbone:
    """A backbone from one of torchvision's classifiers.

    Parameters
    ----------
    architecture : str
        Torchvision's name of the model.
    layers : sequence of str, optional
        Names of modules or graph nodes whose outputs are maps. By default layer1, layer2 and layer3 of a resnet, and
        the last nodes at strides 4, 8 and 16 of any other model.
    weights : str, path or mapping
        ``"default"`` (ImageNet, torchvision's first version as in the paper), ``"none"``, the path of a file, or
        tensors by name.
    name : str, optional
        The name in the registry; ``torchvision/architecture`` by default.

    Raises
    ------
    InputError
        If a layer does not exist, or the weights do not fit or cannot be had.
    """
    name = name or f"torchvision/{architecture}"
    maps = _select(name, architecture, layers)
    with Undrawn():
        model = _build(architecture)
    extractor = cut_network(model.eval(), tuple(maps))
    state, source = find_state(weights, name=name, default=functools.partial(_download, architecture))
    return Backbone(
        _Maps(extractor),
        name=name,
        layers=tuple(maps),
        strides=[layer.stride for layer in maps.values()],
        state=install(extractor, state, name=name, source=source, all_names=model.state_dict().keys()),
        weights_source=source,
        example_size=(64, 64) if architecture in RESNETS else (224, 224),
    )


def build_network(architecture: str, layers: Sequence[str]) -> _Maps:
    """A network of random weights that gives the maps of some layers, and can be trained."""
    return _Maps(cut_network(_build(architecture), layers))


class _Maps(nn.Module):
    """A cut network under the name that files of students know it by."""

    def __init__(self, extractor: fx.GraphModule) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor) -> list[Tensor]:
        # Called as a module, it would print the code of the graph when an image is of a size that the network refuses.
        maps: list[Tensor] = self.extractor.forward(images)
        return maps


class FeatureMap(NamedTuple):
    """What is known of a module that gives maps."""

    channels: int
    stride: int
    is_stage: bool
    """Whether it is a step of the trunk, like ``layer1`` or ``features.3``, and not a part of one."""


@functools.cache
def feature_maps(architecture: str) -> Mapping[str, FeatureMap]:
    """The modules of a model that give maps, by name, in the order of computation.

    Found by sending shapes without numbers through the network.
    """
    maps: dict[str, FeatureMap] = {}

    def note(name: str, is_stage: bool, _module: nn.Module, _inputs: Any, output: Any) -> None:
        # The map of a square image is square: this leaves out token sequences and maps with channels last.
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            stride = 2 ** round(math.log2(224 / output.shape[2]))
            maps[name] = FeatureMap(int(output.shape[1]), stride, is_stage)

    try:
        with torch.device("meta"):
            model = _build(architecture).eval()
    except NotImplementedError:  # some constructors compute their sizes with tensors
        model = _build(architecture).eval().to("meta")
    with torch.device("meta"), torch.no_grad():
        for name, module in model.named_modules():
            parent = model.get_submodule(name.rpartition(".")[0])
            is_step = name.count(".") == 1 and isinstance(parent, (nn.Sequential, nn.ModuleList))
            module.register_forward_hook(functools.partial(note, name, "." not in name or is_step))
        model(torch.zeros(1, 3, 224, 224))
    return maps


def default_layers(architecture: str) -> dict[str, FeatureMap]:
    """The last stages of a model at strides 4, 8 and 16, by name; empty if it has no such stages."""
    last = _last_stages(architecture)
    if not set(_STRIDES) <= set(last):
        return {}
    return {last[stride]: feature_maps(architecture)[last[stride]] for stride in _STRIDES}


def _last_stages(architecture: str) -> dict[int, str]:
    """By stride, the name of the last stage that has it."""
    return {layer.stride: name for name, layer in feature_maps(architecture).items() if layer.is_stage}


def _select(name: str, architecture: str, layers: Sequence[str] | None) -> dict[str, FeatureMap]:
    """The layers asked for, by name."""
    if layers is None:
        defaults = default_layers(architecture)
        if not defaults:
            raise InputError(f"{name} has no maps at strides 4, 8 and 16: name its --layers, or take a model of timm/")
        return defaults
    maps = feature_maps(architecture)
    stages = [layer for layer, about in maps.items() if about.is_stage]
    return {layer: maps[layer] for layer in check_layers(name, layers, maps, stages)}


def _build(architecture: str) -> nn.Module:
    import torchvision

    options = _INCEPTION_OPTIONS if architecture in _INCEPTIONS else {}
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn; the caller's numbers must not depend on that
        model: nn.Module = torchvision.models.get_model(architecture, weights=None, **options)
    return model


def _weights_entry(architecture: str) -> Any:
    import torchvision

    choices = torchvision.models.get_model_weights(architecture)
    return choices["IMAGENET1K_V1"] if "IMAGENET1K_V1" in choices.__members__ else choices.DEFAULT


def _cached_file(architecture: str) -> Path:
    return _checkpoint(_weights_entry(architecture).url.rpartition("/")[2])


def _checkpoint(file: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", file)


def _download(architecture: str) -> State:
    if not _cached_file(architecture).exists():
        require_connection(_weights_entry(architecture).url)
    state: State = _weights_entry(architecture).get_state_dict(progress=sys.stderr.isatty(), check_hash=True)
    return state


def architectures() -> list[str]:
    """All of torchvision's classifiers."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def describe(architecture: str) -> dict[str, Any]:
    """What a listing says of a model: layers, channels, strides, dimensions, and whether its weights are here."""
    layers = default_layers(architecture)
    channels, strides, _ = zip(*layers.values(), strict=True) if layers else ((), (), ())
    stages = tuple(
        name for stride, name in sorted(_last_stages(architecture).items()) if stride >= min(strides, default=1)
    )
    is_cached = _cached_file(architecture).exists()
    return {**describe_layers(tuple(layers), channels, strides, weights_offline=is_cached), "stages": stages}


def _describe_resnet(architecture: str) -> dict[str, Any]:
    """What :func:`describe` says, without torchvision."""
    channels, file = RESNETS[architecture]
    stages = ("layer1", "layer2", "layer3", "layer4")
    is_cached = _checkpoint(file).exists()
    return {**describe_layers(stages[:3], channels, _STRIDES, weights_offline=is_cached), "stages": stages}


for _name in RESNETS:
    backbones.register(
        _name,
        source="torchvision",
        summary="ImageNet-1k" + (", the paper's" if _name in ("resnet18", "wide_resnet50_2") else ""),
        describe=functools.partial(_describe_resnet, _name),
    )(functools.partial(create, _name, name=_name))

backbones.register_family(
    "torchvision/",
    create,
    names=architectures,
    describe=describe,
    summary="every classifier of torchvision that gives maps",
)
