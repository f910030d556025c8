"""Networks of the architecture of a backbone that can be trained: fresh weights, batch norms in place."""

from __future__ import annotations

import copy

import torch
from torch import nn

from padim_zoo.backbones import builtin, timm, torchvision
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.discriminants import refuse_projections
from padim_zoo.backbones.state_dict import State
from padim_zoo.core.errors import InputError


def trainable_network(backbone: Backbone, seed: int) -> nn.Module:
    """A network that gives maps of the same layers, with random weights.

    Parameters
    ----------
    backbone : Backbone
        Of torchvision or timm, or ``builtin``.
    seed : int
        Of the weights.

    Returns
    -------
    Module
        In train mode; takes normalized images (N, 3, H, W), returns one map per layer.

    Raises
    ------
    InputError
        If the backbone is of another source, so that only its factory knows how to build another one, or its maps are
        projected.
    """
    refuse_projections(backbone.state_in_use(), backbone.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if backbone.name == "builtin":
            network: nn.Module | None = builtin.build_network(backbone.layers)
        else:
            network, _ = _rebuild(backbone)
    if network is None:
        raise InputError(
            f"no student can be built for the backbone {backbone.name}: expected builtin, or one of torchvision or timm"
        )
    return network.requires_grad_(True).train()


def _rebuild(backbone: Backbone, state: State | None = None) -> tuple[nn.Module, nn.Module] | tuple[None, None]:
    """A network of random weights, and its part that has the names of a weights file; None of another library."""
    library, _, model_name = backbone.name.rpartition("/")
    if library == "timm":
        intermediates = timm.build_network(model_name, backbone.layers, state)
        return intermediates, intermediates.model
    if library == "torchvision" or backbone.name in torchvision.RESNETS:
        maps = torchvision.build_network(model_name, backbone.layers)
        return maps, maps.extractor
    return None, None


def trainable_copy(backbone: Backbone) -> tuple[nn.Module, nn.Module]:
    """A network with the weights of a backbone that can be trained further.

    It is in eval mode and meant to stay so: batch norms keep the statistics that their weights go with, which a few
    images of one kind would only spoil (and files of folded networks have none).

    Parameters
    ----------
    backbone : Backbone
        Of torchvision or timm, ``builtin``, or any whose network has the tensors of its weights file and no others.

    Returns
    -------
    network : Module
        Takes normalized images (N, 3, H, W), returns one map per layer.
    named : Module
        The part of it whose tensors have the names of a weights file.

    Raises
    ------
    InputError
        If the network does not tell which of its tensors are which of a weights file, or has none to train, or its maps
        are projected.
    """
    state = backbone.state_in_use()
    refuse_projections(state, backbone.name)
    network, named = _rebuild(backbone, state)
    if network is None or named is None:
        network = named = copy.deepcopy(backbone.network)
    unlike = [
        name
        for name, tensor in named.state_dict().items()
        if not name.endswith("num_batches_tracked") and (name not in state or state[name].shape != tensor.shape)
    ]
    if unlike or not any(parameter.is_floating_point() for parameter in named.parameters()):
        raise InputError(
            f"the backbone {backbone.name} cannot be trained: expected builtin, one of torchvision or timm, or a "
            "plugin whose network has weights under the names of its file, and no batch norms"
        )
    named.load_state_dict(state, strict=False)
    return network.requires_grad_(True).eval(), named


def frozen(network: nn.Module, like: Backbone) -> Backbone:
    """A trained network as a backbone with the normalization of another; the network is taken over."""
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    example = 224 if like.name.startswith(("timm/", "torchvision/")) else 64
    return Backbone(
        network,
        name=like.name,
        layers=like.layers,
        strides=like.strides,
        state=state,
        weights_source="student",
        mean=like.mean,
        std=like.std,
        example_size=(example, example),
    )
