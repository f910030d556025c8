"""Networks of the architecture of a backbone that can be trained: fresh weights, batch norms in place."""

from __future__ import annotations

import torch
from torch import nn

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.errors import InputError


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
        In train mode; takes normalised images (N, 3, H, W), returns one map per layer.

    Raises
    ------
    InputError
        If the backbone is of another source: only its factory knows how to build another one.
    """
    from padim_zoo.backbones import builtin, from_timm, from_torchvision

    source, _, rest = backbone.name.rpartition("/")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if source == "timm":
            network = from_timm.build_network(rest, backbone.layers)
        elif backbone.name == "builtin":
            network = builtin.build_network(backbone.layers)
        elif source == "torchvision" or backbone.name in from_torchvision.RESNETS:
            network = from_torchvision.build_network(rest, backbone.layers)
        else:
            raise InputError(
                f"no student can be built for the backbone {backbone.name}: expected builtin, or one of torchvision or "
                "timm"
            )
    return network.requires_grad_(True).train()


def frozen(network: nn.Module, like: Backbone) -> Backbone:
    """A trained network as a backbone with the normalisation of another; the network is taken over."""
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
