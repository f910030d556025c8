"""The contract of backbones, as checks."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.detectors import load
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.errors import InputError
from padim_zoo.testing.contract import create, in_one_line, refusal, run_checks
from padim_zoo.testing.images import normal_images

TOLERANCE = 1e-4
"""Largest difference of two maps that should be equal up to rounding, relative to the largest value."""

SMALLEST_GRID = 5
"""Rows and columns of a map from which on it is asked where it answers to the corners of an image."""


@dataclass(frozen=True)
class Subject:
    """A backbone under test, and how to make others like it.

    Attributes
    ----------
    spec : str
    options : dict
        Of the factory, beside layers and weights.
    backbone : Backbone
        With the weights and the layers asked for.
    size : tuple of int
        Height and width of images that it takes; multiples of all strides.
    weights : str
    """

    spec: str
    options: dict[str, Any]
    backbone: Backbone
    size: tuple[int, int]
    weights: str

    def make(self, **options: Any) -> Backbone:
        """Another one, with other layers or weights."""
        chosen = {"layers": self.backbone.layers, "weights": self.weights, **self.options, **options}
        return registry.backbones.create(self.spec, **chosen)

    def images(self, count: int = 2, size: tuple[int, int] | None = None, seed: int = 0) -> Tensor:
        """Images (count, 3, H, W), float32 in [0, 1]."""
        pixels = normal_images(count, *(size or self.size), seed=seed)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)


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
    subject = Subject(name, options, backbone, sides or _small_size(backbone), weights)
    run_checks(f"the backbone {name!r}", subject, CHECKS)


def _small_size(backbone: Backbone) -> tuple[int, int]:
    """About 64 pixels, in whole steps of all layers, if the network takes that; else its example size."""
    step = math.lcm(*(stride for stride in backbone.strides if isinstance(stride, int) and stride > 0), 1)
    side = step * max(2, 64 // step)
    for size in ((side, side), (2 * side, 2 * side)):
        if _maps_or_none(backbone, torch.zeros(1, 3, *size)) is not None:
            return size
    return backbone.example_size


def _maps_or_none(backbone: Backbone, images: Tensor) -> list[Tensor] | None:
    """The maps, or None where the network refuses images of this size in words."""
    try:
        found: list[Tensor] = backbone(images)
    except InputError:
        return None
    return found


# -- the checks: what each yields is one line for each thing that is wrong -------------------------------------------


def registration(subject: Subject) -> Iterator[str]:
    """A saved model finds its backbone by its name, and listings tell the truth."""
    backbone, name = subject.backbone, registry.parse_spec(subject.spec)[0]
    if backbone.name != name:
        yield (
            f"the backbone calls itself {backbone.name!r}: expected the registered name {name!r}, by which a saved "
            "model finds it (Backbone(name=…))"
        )
    entry = registry.backbones.entry(name)
    if not entry.summary:
        yield "there is no summary for padim-zoo list: give register(summary=…) or the factory a docstring"
    usual = registry.backbones.create(subject.spec, weights=subject.weights, **subject.options)
    for what in ("layers", "channels", "strides", "default_dims"):
        told, found = entry.metadata.get(what), getattr(usual, what)
        if told is not None and (tuple(told) if isinstance(told, list) else told) != found:
            yield f"the listing says {what} {told}, but the backbone has {found}: register what it has"


def maps(subject: Subject) -> Iterator[str]:
    """One map per layer, float32, finite, of as many images and channels as promised."""
    backbone = subject.backbone
    if not backbone.layers or len(backbone.layers) != len(set(backbone.layers)):
        yield f"layers are {backbone.layers}: expected at least one name, none of them twice"
    for height, width in _sizes_to_try(subject):
        found = backbone(subject.images(2, (height, width)))
        if len(found) != len(backbone.layers):
            yield f"{len(found)} maps of the {len(backbone.layers)} layers {backbone.layers}: expected one per layer"
            return
        for layer, channels, each in zip(backbone.layers, backbone.channels, found, strict=True):
            where = f"layer {layer!r} of images of {height}×{width}"
            if each.ndim != 4 or each.shape[:2] != (2, channels):
                yield f"{where} has the shape {tuple(each.shape)}: expected (2, {channels}, H, W)"
            if each.dtype != torch.float32:
                yield f"{where} is {each.dtype}: expected torch.float32"
            if not each.isfinite().all():
                yield f"{where} has values that are not finite"


def image_sizes(subject: Subject) -> Iterator[str]:
    """Images that are not square, and sizes that a network cannot take, work or are refused in words."""
    height, width = subject.size
    for size in ((height, 2 * width), (2 * height, width), (height + 1, width + 3), (1, 1)):
        images = subject.images(1, size)
        yield from refusal(subject.backbone, f"an image of {_text(size)}", images, must_raise=False)


def strides(subject: Subject) -> Iterator[str]:
    """An image that is larger by k strides has a grid that is larger by k; so, and only so, a map is in register."""
    backbone = subject.backbone
    if len(backbone.strides) != len(backbone.layers):
        yield f"there are {len(backbone.strides)} strides for {len(backbone.layers)} layers: expected one per layer"
        return
    for axis, name in ((0, "height"), (1, "width")):
        larger = list(subject.size)
        larger[axis] *= 2
        size = (larger[0], larger[1])
        small, large = (_maps_or_none(backbone, subject.images(1, each)) for each in (subject.size, size))
        if small is None or large is None:
            continue  # takes images of one size only, and says so
        for layer, stride, before, after in zip(backbone.layers, backbone.strides, small, large, strict=False):
            grown = after.shape[2 + axis] - before.shape[2 + axis]
            if grown * stride != subject.size[axis]:
                found = subject.size[axis] / grown if grown else float("inf")
                yield (
                    f"layer {layer!r} says stride {stride}, but from images of {_text(subject.size)} to {_text(size)} "
                    f"its grid grows by {grown} in {name}, a stride of {found:.4g}"
                )


def position(subject: Subject) -> Iterator[str]:
    """What changes in one corner of an image is seen in the same corner of its maps."""
    images = subject.images(1, (2 * subject.size[0], 2 * subject.size[1]))
    if _maps_or_none(subject.backbone, images) is None:
        images = subject.images(1)
    before = subject.backbone(images)
    corners = ("upper left", "upper right", "lower left", "lower right")
    changes = [subject.backbone(_changed(images, number)) for number in range(len(corners))]
    for layer, old, *new in zip(subject.backbone.layers, before, *changes, strict=False):
        if min(old.shape[2:]) < SMALLEST_GRID:
            continue  # one step of it sees most of the image
        energies = torch.stack([_by_quarter((each - old).double().square().sum((0, 1))) for each in new])
        for corner, energy in zip(corners, energies, strict=True):
            if not energy.any():
                yield f"layer {layer!r} does not change when the {corner} corner of the image does"
        # How much a quarter answers to all corners, and a corner changes in all quarters, says nothing of positions.
        excess = energies.clamp_min(1e-300).log()
        excess = excess - excess.mean(0, keepdim=True) - excess.mean(1, keepdim=True)
        for number, strongest in enumerate(excess.argmax(1).tolist()):
            if strongest != number and energies[number].any():
                yield (
                    f"layer {layer!r} answers to the {corners[number]} corner of the image at the "
                    f"{corners[strongest]}: are rows and columns exchanged, or tokens that are no patches left in?"
                )


def _changed(images: Tensor, corner: int) -> Tensor:
    """Images whose upper left, upper right, lower left or lower right corner, a quarter of each side, is negative."""
    changed = images.clone()
    height, width = (max(1, size // 4) for size in images.shape[2:])
    rows = slice(-height, None) if corner // 2 else slice(height)
    columns = slice(-width, None) if corner % 2 else slice(width)
    changed[:, :, rows, columns] = 1 - changed[:, :, rows, columns].flip(2)
    return changed


def _by_quarter(difference: Tensor) -> Tensor:
    """Sums over the upper left, upper right, lower left and lower right quarter of (H, W)."""
    upper, lower = difference.tensor_split(2, dim=0)
    return torch.stack([part.sum() for half in (upper, lower) for part in half.tensor_split(2, dim=1)])


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
            f"made twice with weights={subject.weights!r} it has different weights: draw them from a seed, as "
            "padim_zoo.backbones.weights.install does for state None"
        )
    elif not _equal(one(images), other(images)):
        yield "made twice it has one weights_hash but gives different maps: state lacks tensors that are drawn"


def batch_invariance(subject: Subject) -> Iterator[str]:
    """The maps of an image do not depend on the others of its batch."""
    images = torch.cat([subject.images(2), 1 - subject.images(1, seed=5)])
    together = subject.backbone(images)
    for layer, whole, *alone in zip(
        subject.backbone.layers, together, *(subject.backbone(image[None]) for image in images), strict=False
    ):
        found = _difference(whole, torch.cat(alone))
        if found > TOLERANCE:
            yield (
                f"layer {layer!r} of an image differs by {found:.2g} of its largest value when it is alone in the "
                "batch: is a statistic of the batch used, as batch norms do in training?"
            )


def dependence_on_the_image(subject: Subject) -> Iterator[str]:
    """Different images have different maps."""
    one, other = subject.backbone(subject.images(1)), subject.backbone(1 - subject.images(1))
    for layer, first, second in zip(subject.backbone.layers, one, other, strict=False):
        if first.shape == second.shape and torch.equal(first, second):
            yield f"layer {layer!r} is the same for an image and its negative: the network does not look at it"


def normalisation(subject: Subject) -> Iterator[str]:
    """Images come in [0, 1], and the class, not the network, subtracts mean and divides by std."""
    backbone = subject.backbone
    for what, values in (("mean", backbone.mean), ("std", backbone.std)):
        if len(values) != 3 or not all(0 <= value <= 1 for value in values) or (what == "std" and min(values) <= 0):
            yield f"{what} is {values}: expected three numbers for red, green and blue in [0, 1]; of 0 to 255, divide"
            return
    images = subject.images(1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    expected = backbone.network((images - mean) / std)
    for layer, found, map_ in zip(backbone.layers, backbone(images), expected, strict=False):
        if found.shape != map_.shape or _difference(found, map_.float()) > TOLERANCE:
            yield (
                f"layer {layer!r} is not what the network gives for (images - mean) / std: leave forward to Backbone, "
                "which normalises"
            )


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
    for chosen in choices:
        names = ",".join(chosen)
        try:
            part = subject.make(layers=chosen)
        except Exception as error:
            yield f"it cannot be made with layers={chosen!r}: {in_one_line(error)}"
            continue
        if part.layers != chosen:
            yield f"made with layers={chosen!r} it has the layers {part.layers}: expected those, in that order"
            continue
        for layer, found in zip(chosen, part(images), strict=False):
            if found.shape != whole[layer].shape or _difference(found, whole[layer]) > TOLERANCE:
                yield (
                    f"layer {layer!r} is another map when the layers are {names}: are weights drawn in an order that "
                    "depends on the layers, or maps returned in the network's order?"
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
        for source, given in (("its own tensors", state), ("a file of its own tensors", path)):
            try:
                again = subject.make(weights=given)
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
    others = {
        name: tensor + 0.1 * tensor.abs().amax() + 0.01 if tensor.is_floating_point() and tensor.numel() else tensor
        for name, tensor in state.items()
    }
    changed = subject.make(weights=others)
    if changed.weights_hash == backbone.weights_hash:
        yield "other weights have the same weights_hash: pass the tensors in use as state"
    if _equal(changed(images), backbone(images)):
        yield "other weights give the same maps: the weights that are passed are not loaded"


def precision(subject: Subject) -> Iterator[str]:
    """In bfloat16 maps stay float32 and finite, or it is refused in words."""
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


def model_file(subject: Subject) -> Iterator[str]:
    """A detector on it scores the same after it was saved and loaded."""
    pixels = normal_images(4, *subject.size)
    dims = min(8, sum(subject.backbone.channels))
    detector = PaDiM(subject.backbone, "diagonal", dims=dims, resize=None, crop=None, sigma=0.0)
    expected = detector.fit(pixels).predict(pixels).scores
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        try:
            detector.save(path)
            found = load(path).predict(pixels).scores
        except InputError as error:
            yield f"a PaDiM on it cannot be saved and loaded: {error}"
            return
    if not np.allclose(found, expected, rtol=1e-3):
        yield f"a PaDiM on it scores {found} after it was saved and loaded, and {expected} before"


CHECKS: tuple[Callable[[Subject], Iterator[str]], ...] = (
    registration,
    maps,
    image_sizes,
    strides,
    position,
    determinism,
    batch_invariance,
    dependence_on_the_image,
    normalisation,
    frozen,
    layers,
    weights,
    precision,
    model_file,
)


def _sizes_to_try(subject: Subject) -> Iterator[tuple[int, int]]:
    """The size, and one that is not square where the network takes it."""
    yield subject.size
    wide = (subject.size[0], 2 * subject.size[1])
    if _maps_or_none(subject.backbone, subject.images(1, wide)) is not None:
        yield wide


def _equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value expected."""
    with torch.no_grad():
        return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
