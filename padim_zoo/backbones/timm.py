"""Backbones of timm: every model that can give feature maps, as ``timm/…``."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from padim_zoo.backbones.backbone import Backbone, describe_layers
from padim_zoo.backbones.stages import check_layers
from padim_zoo.backbones.state_dict import State
from padim_zoo.backbones.undrawn import Undrawn
from padim_zoo.backbones.weights import Weights, covers, find_state, install, require_connection
from padim_zoo.core.errors import InputError
from padim_zoo.registry import backbones

_STRIDES = (4, 8, 16)
# Either lets a model that was made for one size of images take others, where its constructor knows the word.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


def create(model_name: str, layers: Sequence[str] | None = None, weights: Weights = "default") -> Backbone:
    """A backbone from one of timm's models.

    Parameters
    ----------
    model_name : str
        Timm's name of the model, with the tag of its weights if wanted: ``resnet50.a1_in1k``.
    layers : sequence of str, optional
        Timm's names of modules (``stages.0``, ``blocks.5``), or their numbers. By default those at strides 4, 8 and
        16; of a vision transformer, the blocks at a quarter, half and three quarters of its depth.
    weights : str, path or mapping
        ``"default"`` (timm's), ``"none"``, the path of a file with the keys of the whole model, reparameterised or
        not, or tensors by name.

    Raises
    ------
    InputError
        If the model gives no maps, a layer does not exist, or the weights do not fit or cannot be had.
    """
    from timm.utils.model import reparameterize_model

    name = f"timm/{model_name}"
    maps = feature_maps(model_name)
    indices = _select(name, layers, maps)
    with Undrawn():
        model = _build(model_name)
    names = model.state_dict().keys()
    model.prune_intermediate_layers(sorted(indices), prune_norm=True)
    state, source = find_state(weights, name=name, default=functools.partial(pretrained_state, model_name))
    if state is not None and not covers(model, state):
        # Perhaps the file was saved from a model whose branches had been merged already.
        merged = reparameterize_model(model)
        if covers(merged, state):
            model, names = merged, reparameterize_model(_build(model_name), inplace=True).state_dict().keys()
    in_use = install(model, state, name=name, source=source, all_names=names)
    config = model.pretrained_cfg
    return Backbone(
        Intermediates(reparameterize_model(model, inplace=True), indices),
        name=name,
        layers=[maps[index].name for index in indices],
        strides=[maps[index].stride for index in indices],
        state=in_use,
        weights_source=source,
        mean=config["mean"],
        std=config["std"],
        example_size=config["input_size"][1:],
    )


def build_network(model_name: str, layers: Sequence[str], state: State | None = None) -> Intermediates:
    """A network of random weights that gives the maps of some layers, and can be trained.

    Where ``state`` is of a model whose branches had been merged, those of the network are merged too.
    """
    from timm.utils.model import reparameterize_model

    indices = _select(f"timm/{model_name}", layers, feature_maps(model_name))
    model = _build(model_name)
    model.prune_intermediate_layers(sorted(indices), prune_norm=True)
    if state is not None and not covers(model, state):
        model = reparameterize_model(model)
    return Intermediates(model, indices)


class Intermediates(nn.Module):
    """Intermediate maps of a model, token sequences as grids."""

    model: Any

    def __init__(self, model: Any, indices: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.indices = sorted(indices)
        self.order = [self.indices.index(index) for index in indices]

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(images, indices=self.indices, intermediates_only=True)
        return [maps[position] for position in self.order]


class FeatureMap(NamedTuple):
    """What timm knows of a layer."""

    name: str
    channels: int
    stride: int


@functools.cache
def feature_maps(model_name: str) -> tuple[FeatureMap, ...]:
    """The layers of a model that give maps, in the order of computation.

    Raises
    ------
    InputError
        If the model has none, or cannot be cut after them.
    """
    try:
        with torch.device("meta"):
            model = _build(model_name)
    except (NotImplementedError, RuntimeError):  # some constructors compute with the values of tensors
        model = _build(model_name)
    if not all(hasattr(model, way) for way in ("feature_info", "forward_intermediates", "prune_intermediate_layers")):
        raise InputError(f"timm/{model_name} gives no feature maps: see padim-zoo list backbones 'timm/*'")
    info = getattr(model.feature_info, "info", model.feature_info)
    names = [layer["module"] for layer in info]
    # Some models give several maps by one module: those go by their numbers.
    return tuple(
        FeatureMap(
            layer["module"] if names.count(layer["module"]) == 1 and layer["module"] else str(index),
            layer["num_chs"],
            layer["reduction"],
        )
        for index, layer in enumerate(info)
    )


def default_layers(maps: Sequence[FeatureMap]) -> list[int]:
    """Indices of the layers used by default: three where there are three."""
    strides = [layer.stride for layer in maps]
    if len(set(strides)) == 1:  # a vision transformer: blocks at a quarter, half and three quarters of the depth
        return sorted({round(len(maps) * quarter / 4) - 1 for quarter in (1, 2, 3)} & set(range(len(maps))))
    last = {stride: index for index, stride in enumerate(strides)}
    usual = [last[stride] for stride in _STRIDES if stride in last]
    return usual if len(usual) == len(_STRIDES) else [last[stride] for stride in sorted(last) if stride >= 4][:3]


def _select(name: str, layers: Sequence[str] | None, maps: Sequence[FeatureMap]) -> list[int]:
    """Indices of the layers asked for."""
    if layers is None:
        return default_layers(maps)
    names = [layer.name for layer in maps]
    numbers = {str(index): index for index in range(len(maps))} | {layer: index for index, layer in enumerate(names)}
    # A number and the name of one layer are the same layer.
    check_layers(name, [names[numbers[layer]] if layer in numbers else layer for layer in layers], names)
    return [numbers[layer] for layer in layers]


def _build(model_name: str, **options: Any) -> Any:
    """A whole model in eval mode, for images of any size where it can be had."""
    import timm

    with torch.random.fork_rng(devices=[]):  # initial weights are drawn; the caller's numbers must not depend on that
        for option in _ANY_SIZE:
            try:
                return timm.create_model(model_name, **option, **options).eval()
            except TypeError as error:  # noqa: PERF203  twice at most
                if not any(name in str(error) for name in option):
                    raise
        return timm.create_model(model_name, **options).eval()


def _checkpoint(model_name: str) -> str | None:
    """The file of a model's weights in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model_name)
    if config is None or not config.hf_hub_id:
        return None
    files = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    paths = (try_to_load_from_cache(config.hf_hub_id, file) for file in files)
    return next((path for path in paths if isinstance(path, str)), None)


def pretrained_state(model_name: str) -> State:
    """The weights that timm has for a model, from its cache or downloaded, by the names of the whole model."""
    from huggingface_hub.constants import ENDPOINT

    cached = _checkpoint(model_name)
    if cached is None:
        require_connection(ENDPOINT)
    # A cached file is named, because looking for a newer one without a network takes a minute.
    source = {"pretrained_cfg_overlay": {"file": cached}} if cached else {}
    state: State = _build(model_name, pretrained=True, **source).state_dict()
    return state


def knows(model_name: str) -> bool:
    """Whether timm has a model, and weights by its tag if it has one."""
    from timm.models import get_pretrained_cfg, is_model

    try:
        return bool(is_model(model_name) and (get_pretrained_cfg(model_name) or "." not in model_name))
    except RuntimeError:  # no such tag
        return False


def names() -> list[str]:
    """All of timm's models."""
    import timm

    return list(timm.list_models())


def describe(model_name: str) -> dict[str, Any]:
    """What a listing says of a model: layers, channels, strides, dimensions, and whether its weights are here."""
    try:
        maps = feature_maps(model_name)
    except InputError:  # listed, so that its name is not taken for a mistake, but without maps
        maps = ()
    used = [maps[index] for index in default_layers(maps)]
    layers, channels, strides = zip(*used, strict=True) if used else ((), (), ())
    is_cached = _checkpoint(model_name) is not None
    stages = tuple(layer.name for layer in maps)
    return {**describe_layers(layers, channels, strides, weights_offline=is_cached), "stages": stages}


backbones.register_family(
    "timm/",
    create,
    names=names,
    knows=knows,
    describe=describe,
    summary="every model of timm that gives maps; transformers as a grid of tokens",
)
