"""The contract of backbones, as checks; those of the maps are in :mod:`padim_zoo.testing.feature_maps`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.testing.contract import checks_of, create, in_one_line, refusal, run_checks
from padim_zoo.testing.feature_maps import MAP_CHECKS, TOLERANCE, Subject, difference, small_size
from padim_zoo.testing.images import normal_images
from padim_zoo.testing.model_file import same_after_loading

BFLOAT16_TOLERANCE = 0.1
"""How far the maps of a layer may be from those in float32, by their norms; networks of torchvision and timm move by
0.3 to 1.6 %."""


def check_backbone(
    name: str,
    *,
    weights: str = "none",
    layers: Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    **options: Any,
) -> None:
    """Check that a registered backbone keeps the contract.

    Parameters
    ----------
    name : str
        A registered name.
    weights : str
        What to make it with; ``"none"``, the default, needs no download.
    layers : sequence of str, optional
        Layers to check; the backbone's own choice by default.
    size : int or (int, int), optional
        Height and width of the images to try; by default a small one that the network takes.
    **options
        Further arguments of the factory.

    Raises
    ------
    ContractError
        Naming everything that is wrong.
    InputError
        If the name is not registered.
    """
    backbone = create(registry.backbones, name, Backbone, layers=layers, weights=weights, **options)
    sides = (size, size) if isinstance(size, int) else size
    options |= {"layers": backbone.layers, "weights": weights}
    subject = Subject(registry.backbones, name, backbone, options, sides or small_size(backbone))
    run_checks(f"the backbone {name!r}", subject, [*MAP_CHECKS, *checks_of(__name__)])


# -- the checks: what each yields is one line for each thing that is wrong -------------------------------------------


def registration(subject: Subject) -> Iterator[str]:
    """A saved model finds its backbone by its name, and listings tell the truth."""
    backbone, name = subject.backbone, subject.name
    if backbone.name != name:
        yield (
            f"the backbone calls itself {backbone.name!r}: expected the registered name {name!r}, by which a saved "
            "model finds it (Backbone(name=…))"
        )
    yield from subject.listing()
    entry, usual = subject.registry.entry(name), subject.make(layers=None)
    for what in ("layers", "channels", "strides", "default_n_components"):
        listed, own = entry.metadata.get(what), getattr(usual, what)
        if listed is not None and (tuple(listed) if isinstance(listed, list) else listed) != own:
            yield f"the listing says {what} {listed}, but the backbone has {own}: register what it has"


def determinism(subject: Subject) -> Iterator[str]:
    """The same images give the same bits, and the same factory the same backbone, whatever was drawn before."""
    images = subject.images()
    first, second = subject.backbone(images), subject.backbone(images)
    if not _equal(first, second):
        yield "the same images give other maps the second time: is there dropout, or another draw, in the forward?"
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  a factory may draw from the legacy state
    one = subject.make()
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    other = subject.make()
    if one.weights_hash != other.weights_hash:
        yield (
            f"made twice with weights={subject.options['weights']!r} it has different weights: draw them from a seed, "
            "as padim_zoo.plugin.install does for state None"
        )
    elif not _equal(one(images), other(images)):
        yield "made twice it has one weights_hash but gives different maps: state lacks tensors that are drawn"


def frozen(subject: Subject) -> Iterator[str]:
    """No gradients, and eval mode whatever is asked."""
    backbone = subject.backbone
    learning = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    if learning:
        yield f"the parameters {', '.join(learning[:4])} ask for gradients: a backbone is frozen"
    if any(each.requires_grad for each in backbone(subject.images(1))):
        yield "maps ask for gradients: a backbone is frozen"
    training = [name or "the backbone" for name, module in backbone.train().named_modules() if module.training]
    if training:
        yield f"after train() {', '.join(training[:4])} is in training mode: expected eval mode always"


def layers(subject: Subject) -> Iterator[str]:
    """Any choice of layers, in any order, gives the same maps as all of them."""
    backbone, images = subject.backbone, subject.images(1)
    whole = dict(zip(backbone.layers, backbone(images), strict=False))
    choices: list[tuple[str, ...]] = [(layer,) for layer in backbone.layers]
    if len(backbone.layers) > 1:
        choices.append(tuple(reversed(backbone.layers)))
    for choice in choices:
        try:
            part = subject.make(layers=choice)
        except Exception as error:
            yield f"it cannot be made with layers={choice!r}: {in_one_line(error)}"
            continue
        if part.layers != choice:
            yield f"made with layers={choice!r} it has the layers {part.layers}: expected those, in that order"
            continue
        for layer, own in zip(choice, part(images), strict=False):
            if own.shape != whole[layer].shape or difference(own, whole[layer]) > TOLERANCE:
                yield (
                    f"layer {layer!r} is another map when the layers are {','.join(choice)}: are weights drawn in an "
                    "order that depends on the layers, or maps returned in the network's order?"
                )
    yield from refusal(lambda: subject.make(layers=()), "layers=()")
    yield from refusal(lambda: subject.make(layers=("no such layer",)), "a layer that does not exist")


def weights(subject: Subject) -> Iterator[str]:
    """The tensors in use build the backbone again, from memory and from a file; what does not fit is refused."""
    backbone, images = subject.backbone, subject.images(1)
    state = backbone.state_in_use()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        for source, tensors in (("its own tensors", state), ("a file of its own tensors", path)):
            try:
                again = subject.make(weights=tensors)
            except Exception as error:
                yield f"it cannot be made of {source} (weights=…), as a saved model does: {in_one_line(error)}"
                continue
            if again.weights_hash != backbone.weights_hash:
                yield f"made of {source} it has another weights_hash: state must be the tensors in use, as installed"
            if not _equal(again(images), backbone(images)):
                yield f"made of {source} it gives other maps: state lacks tensors that the maps depend on"
        missing = Path(folder) / "missing.safetensors"
        yield from refusal(lambda: subject.make(weights=missing), "weights=PATH of a file that does not exist")
    if not state:
        return
    first = next(name for name in sorted(state) if state[name].numel())
    rest = {name: tensor for name, tensor in state.items() if name != first}
    yield from refusal(lambda: subject.make(weights=rest), f"weights without the tensor {first}")
    reshaped = {**state, first: torch.cat([state[first].flatten()] * 2)}
    yield from refusal(lambda: subject.make(weights=reshaped), f"weights with another shape of {first}")
    # By little, for the layers of a deep network multiply it until maps overflow.
    others = {
        name: tensor + 1e-3 * tensor.abs().amax() + 1e-4 if tensor.is_floating_point() and tensor.numel() else tensor
        for name, tensor in state.items()
    }
    changed = subject.make(weights=others)
    if changed.weights_hash == backbone.weights_hash:
        yield "other weights have the same weights_hash: pass the tensors in use as state"
    if _equal(changed(images), backbone(images)):
        yield "other weights give the same maps: the weights that are passed are not loaded"


def precision(subject: Subject) -> Iterator[str]:
    """In bfloat16 maps stay float32, finite and nearly the same, or it is refused in words."""
    try:
        other = subject.backbone.in_precision("bfloat16")
    except InputError:
        return
    images = subject.images(1)
    for layer, exact, rounded in zip(subject.backbone.layers, subject.backbone(images), other(images), strict=False):
        if rounded.dtype != torch.float32:
            yield f"in bfloat16 layer {layer!r} is {rounded.dtype}: expected torch.float32 maps in every precision"
        elif rounded.shape != exact.shape or not rounded.isfinite().all():
            yield f"in bfloat16 layer {layer!r} has another shape, or values that are not finite"
        elif (moved := float((rounded - exact).norm() / exact.norm().clamp_min(1e-30))) > BFLOAT16_TOLERANCE:
            yield (
                f"in bfloat16, the default where it is fast, layer {layer!r} moves by {moved:.0%}: expected no more "
                f"than {BFLOAT16_TOLERANCE:.0%}; compute in float32 what does not bear it, or raise where the images "
                "are bfloat16"
            )


def model_file(subject: Subject) -> Iterator[str]:
    """A detector on it scores the same after it was saved and loaded."""
    pixels = normal_images(4, *subject.size)
    n_components = min(8, sum(subject.backbone.channels))
    detector = PaDiM(
        subject.backbone, "diagonal", n_components=n_components, resize=None, crop=None, sigma=0.0, precision="float32"
    )
    yield from same_after_loading(detector.fit(pixels), pixels, "a PaDiM on it", rtol=1e-3, atol=1e-8)


def _equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True))
