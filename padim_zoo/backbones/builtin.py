"""The backbone that needs no download: its weights are part of the package.

A compact residual network that has learned the feature maps of resnet18 from procedural images alone; how, and how
well, is in ``docs/builtin-backbone.md``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from padim_zoo.backbones.backbone import Backbone, describe_layers
from padim_zoo.backbones.compact_resnet import ProjectedResNet
from padim_zoo.backbones.stages import check_layers
from padim_zoo.backbones.undrawn import Undrawn
from padim_zoo.backbones.weights import Weights, find_state, install, read_weights
from padim_zoo.registry import backbones

COMPONENTS = (48, 48, 48)
"""How many directions each stage gives, those first that tell defects from harmless changes best."""

_STRIDES = {"stage1": 4, "stage2": 8, "stage3": 16}
_WEIGHTS = Path(__file__).with_name("builtin.safetensors")


@backbones.register(
    "builtin",
    source="padim_zoo",
    summary="small network distilled from resnet18; needs no download",
    **describe_layers(tuple(_STRIDES), COMPONENTS, tuple(_STRIDES.values()), weights_offline=True),
)
def builtin(layers: Sequence[str] | None = None, weights: Weights = "default") -> Backbone:
    """A compact residual network whose weights come with the package.

    Parameters
    ----------
    layers : sequence of str, optional
        Some of ``stage1``, ``stage2`` and ``stage3``, at strides 4, 8 and 16; all by default.
    weights : str, path or mapping
        ``"default"`` or ``"builtin"`` for those of the package, ``"none"`` for random ones, the path of a file, or
        tensors by name.

    Raises
    ------
    InputError
        If a layer does not exist, or the weights do not fit.
    """
    layers = check_layers("builtin", layers, _STRIDES)
    with Undrawn():
        network = ProjectedResNet([tuple(_STRIDES).index(layer) for layer in layers], COMPONENTS)
    state, source = find_state(weights, name="builtin", default=_shipped, default_name="builtin")
    return Backbone(
        network,
        name="builtin",
        layers=layers,
        strides=[_STRIDES[layer] for layer in layers],
        state=install(network, state, name="builtin", source=source, all_names=_all_names()),
        weights_source=source,
        ordered_channels=source != "none",
    )


def build_network(layers: Sequence[str]) -> ProjectedResNet:
    """A network of random weights that gives the maps of some layers, and can be trained.

    The distilled network has no batch norms; one that starts from random weights learns a good deal faster with them.
    """
    network = ProjectedResNet([tuple(_STRIDES).index(layer) for layer in layers], COMPONENTS)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and not name.startswith("projections."):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Sequential(module, nn.BatchNorm2d(module.out_channels)))
    return network


@functools.cache
def _all_names() -> frozenset[str]:
    """The names of the tensors of all stages."""
    with Undrawn():
        return frozenset(ProjectedResNet(range(len(COMPONENTS)), COMPONENTS).state_dict())


def _shipped() -> dict[str, Tensor]:
    """The package's weights, which are kept in 16 bit."""
    return {name: tensor.float() for name, tensor in read_weights(_WEIGHTS).items()}
