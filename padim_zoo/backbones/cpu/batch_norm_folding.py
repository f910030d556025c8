"""Fold batch norms into the convolutions before them, whatever the network looks like."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(network: nn.Module, example: Tensor) -> None:
    """Let the convolutions of a network do the work of the batch norms that follow them, in place.

    The pairs are found by watching one forward, so that no network has to be traceable. A convolution whose output is
    read elsewhere too cannot be told from one that can be folded; therefore the outputs are held to those before on
    ``example``, and everything is put back if they differ.

    Parameters
    ----------
    network : Module
        In eval mode.
    example : Tensor (1, 3, H, W)
        An input of the network.
    """
    pairs, expected = _convolutions_before_norms(network, example)
    if not pairs:
        return
    before: dict[str, nn.Module] = {}
    for convolution, norm in pairs:
        before[convolution], before[norm] = network.get_submodule(convolution), network.get_submodule(norm)
        fused = fuse_conv_bn_eval(before[convolution], before[norm])  # type: ignore[type-var,arg-type]
        _replace(network, convolution, fused.requires_grad_(False))
        activation = getattr(before[norm], "act", None)  # batch norms of timm have one of their own
        _replace(network, norm, activation if isinstance(activation, nn.Module) else nn.Identity())
    with torch.no_grad():
        folded = network(example)
    if any(_relative_difference(*maps) > 1e-3 for maps in zip(folded, expected, strict=True)):
        for name, module in before.items():
            _replace(network, name, module)


def _convolutions_before_norms(network: nn.Module, example: Tensor) -> tuple[list[tuple[str, str]], list[Tensor]]:
    """Names of (convolution, batch norm) where the norm reads the convolution's output; and the network's outputs."""
    producers: dict[int, tuple[str, Tensor]] = {}  # holds the tensors, so that no id is given twice
    pairs: dict[str, str] = {}
    calls: Counter[str] = Counter()
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def after(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] += 1
            if type(module) is nn.Conv2d:
                producers[id(output)] = (name, output)
            elif id(inputs[0]) in producers:
                pairs[producers[id(inputs[0])][0]] = name

        handles.append(module.register_forward_hook(after))

    for name, module in network.named_modules():
        if type(module) is nn.Conv2d or (isinstance(module, nn.BatchNorm2d) and module.track_running_stats):
            watch(name, module)
    with torch.no_grad():
        outputs = list(network(example))
    for handle in handles:
        handle.remove()
    return [pair for pair in pairs.items() if calls[pair[0]] == calls[pair[1]] == 1], outputs


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


def _relative_difference(folded: Tensor, expected: Tensor) -> float:
    return float((folded - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
