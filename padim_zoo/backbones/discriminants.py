"""Linear projections of a backbone's maps that a weights file brings along, as ``padim-zoo finetune`` makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from padim_zoo.core.errors import InputError

PREFIX = "discriminants."
"""``discriminants.LAYER.weight`` (k, C, 1, 1) and ``discriminants.LAYER.bias`` (k,) project a layer's C channels."""


class Discriminants(nn.Module):
    """A network whose maps are projected, each layer by a 1×1 convolution.

    Parameters
    ----------
    network : Module
        Gives one map (N, C_l, H_l, W_l) per layer.
    projections : sequence of (Tensor, Tensor)
        Weight (k_l, C_l, 1, 1) and bias (k_l,) for each layer.
    """

    def __init__(self, network: nn.Module, projections: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.network = network
        self.projections = nn.ModuleList()
        for weight, bias in projections:
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
            convolution.load_state_dict({"weight": weight, "bias": bias})
            self.projections.append(convolution)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (N, k_l, H_l, W_l)."""
        maps = self.network(images)
        return [projection(layer) for projection, layer in zip(self.projections, maps, strict=True)]


def named(layer: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """The tensors of a layer's projection under the names that they have in a file."""
    return {f"{PREFIX}{layer}.weight": weight, f"{PREFIX}{layer}.bias": bias}


def projections_in(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of projections among those of a weights file."""
    return {name: tensor for name, tensor in state.items() if name.startswith(PREFIX)}


def refuse_projections(state: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that bring projections along.

    Raises
    ------
    InputError
        If they do.
    """
    if projections_in(state):
        raise InputError(
            f"these weights of {name} have been adapted by discriminants already: start from the weights that they "
            "were made of"
        )


def drop_unused_projections(state: Mapping[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
    """All tensors but the projections of layers that are not in use."""
    used = {f"{PREFIX}{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    return {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX) or name in used}


def projections_of(state: Mapping[str, Tensor], layers: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
    """The projection of each layer; an empty list if the weights bring none along.

    Raises
    ------
    InputError
        If they bring projections along, but not one of every layer, or one of another shape.
    """
    projections = projections_in(state)
    if not projections:
        return []
    projected = list(dict.fromkeys(name.removeprefix(PREFIX).rpartition(".")[0] for name in projections))
    missing = [layer for layer in layers if layer not in projected]
    if missing:
        raise InputError(
            f"the weights have projections of the layers {', '.join(projected)}, but none of {', '.join(missing)}: "
            "choose among the former with --layers, or adapt the others too (padim-zoo finetune --layers)"
        )
    pairs = []
    for layer in layers:
        weight, bias = (projections.get(f"{PREFIX}{layer}.{part}", torch.empty(0)) for part in ("weight", "bias"))
        if weight.ndim != 4 or tuple(weight.shape[2:]) != (1, 1) or tuple(bias.shape) != (len(weight),):
            raise InputError(
                f"the projection of the layer {layer} has the shapes {tuple(weight.shape)} and {tuple(bias.shape)}: "
                "expected (k, C, 1, 1) and (k,)"
            )
        pairs.append((weight, bias))
    return pairs
