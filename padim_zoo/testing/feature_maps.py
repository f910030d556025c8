"""A backbone under test, and checks of its feature maps: their shape, what they see, and where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.errors import InputError
from padim_zoo.testing.contract import Registered, checks_of, refusal
from padim_zoo.testing.images import normal_images

TOLERANCE = 1e-4
"""Largest difference of two maps that should be equal up to rounding, relative to the largest value."""

SMALLEST_GRID = 5
"""Rows and columns of a map from which on it is asked where it answers to the corners of an image."""


@dataclass(frozen=True)
class Subject(Registered[Backbone]):
    """A backbone under test, with the weights and the layers asked for.

    Attributes
    ----------
    size : tuple of int
        Height and width of images that it takes; multiples of all strides.
    """

    size: tuple[int, int]

    @property
    def backbone(self) -> Backbone:
        """As it was made."""
        made: Backbone = self.made
        return made

    def images(self, count: int = 2, size: tuple[int, int] | None = None, seed: int = 0) -> Tensor:
        """Images (count, 3, H, W), float32 in [0, 1]."""
        pixels = normal_images(count, *(size or self.size), seed=seed)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)


def small_size(backbone: Backbone) -> tuple[int, int]:
    """About 64 pixels, in whole steps of all layers, if the network takes that; else its example size."""
    step = math.lcm(*(stride for stride in backbone.strides if isinstance(stride, int) and stride > 0), 1)
    side = step * max(2, 64 // step)
    for size in ((side, side), (2 * side, 2 * side)):
        if maps_or_none(backbone, torch.zeros(1, 3, *size)) is not None:
            return size
    return backbone.example_size


def maps_or_none(backbone: Backbone, images: Tensor) -> list[Tensor] | None:
    """The maps, or None where the network refuses images of this size in words."""
    try:
        return list(backbone(images))
    except InputError:
        return None


# -- the checks: what each yields is one line for each thing that is wrong -------------------------------------------


def maps(subject: Subject) -> Iterator[str]:
    """One map per layer, float32, finite, of as many images and channels as promised."""
    backbone = subject.backbone
    if not backbone.layers or len(backbone.layers) != len(set(backbone.layers)):
        yield f"layers are {backbone.layers}: expected at least one name, none of them twice"
    for height, width in _sizes_to_try(subject):
        of_layers = backbone(subject.images(2, (height, width)))
        if len(of_layers) != len(backbone.layers):
            count = len(backbone.layers)
            yield f"{len(of_layers)} maps of the {count} layers {backbone.layers}: expected one per layer"
            return
        for layer, channels, each in zip(backbone.layers, backbone.channels, of_layers, strict=True):
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
        small, large = (maps_or_none(backbone, subject.images(1, each)) for each in (subject.size, size))
        if small is None or large is None:
            continue  # takes images of one size only, and says so
        for layer, stride, before, after in zip(backbone.layers, backbone.strides, small, large, strict=False):
            grown = after.shape[2 + axis] - before.shape[2 + axis]
            if grown * stride != subject.size[axis]:
                stride_of_grid = subject.size[axis] / grown if grown else float("inf")
                yield (
                    f"layer {layer!r} says stride {stride}, but from images of {_text(subject.size)} to {_text(size)} "
                    f"its grid grows by {grown} in {name}, a stride of {stride_of_grid:.4g}"
                )


def position(subject: Subject) -> Iterator[str]:
    """What changes in one corner of an image is seen in the same corner of its maps."""
    images = subject.images(1, (2 * subject.size[0], 2 * subject.size[1]))
    if maps_or_none(subject.backbone, images) is None:
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
                    f"{corners[strongest]}: are rows and columns exchanged, or tokens left in that are not patches?"
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


def batch_invariance(subject: Subject) -> Iterator[str]:
    """The maps of an image do not depend on the others of its batch."""
    images = torch.cat([subject.images(2), 1 - subject.images(1, seed=5)])
    together = subject.backbone(images)
    for layer, whole, *alone in zip(
        subject.backbone.layers, together, *(subject.backbone(image[None]) for image in images), strict=False
    ):
        moved = difference(whole, torch.cat(alone))
        if moved > TOLERANCE:
            yield (
                f"layer {layer!r} of an image differs by {moved:.2g} of its largest value when it is alone in the "
                "batch: is a statistic of the batch used, as batch norms do in training?"
            )


def dependence_on_the_image(subject: Subject) -> Iterator[str]:
    """Different images have different maps."""
    one, other = subject.backbone(subject.images(1)), subject.backbone(1 - subject.images(1))
    for layer, first, second in zip(subject.backbone.layers, one, other, strict=False):
        if first.shape == second.shape and torch.equal(first, second):
            yield f"layer {layer!r} is the same for an image and its negative: the network does not look at it"


def normalization(subject: Subject) -> Iterator[str]:
    """Images come in [0, 1], and the class, not the network, subtracts mean and divides by std."""
    backbone = subject.backbone
    for what, values in (("mean", backbone.mean), ("std", backbone.std)):
        if len(values) != 3 or not all(0 <= value <= 1 for value in values) or (what == "std" and min(values) <= 0):
            yield f"{what} is {values}: expected three numbers for red, green and blue in [0, 1]; of 0 to 255, divide"
            return
    images = subject.images(1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    expected = backbone.network((images - mean) / std)
    for layer, own, of_network in zip(backbone.layers, backbone(images), expected, strict=False):
        if own.shape != of_network.shape or difference(own, of_network.float()) > TOLERANCE:
            yield (
                f"layer {layer!r} is not what the network gives for (images - mean) / std: leave forward to Backbone, "
                "which normalizes"
            )


def _sizes_to_try(subject: Subject) -> Iterator[tuple[int, int]]:
    """The size, and one that is not square where the network takes it."""
    yield subject.size
    wide = (subject.size[0], 2 * subject.size[1])
    if maps_or_none(subject.backbone, subject.images(1, wide)) is not None:
        yield wide


def difference(values: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value expected."""
    with torch.no_grad():
        return float((values - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


MAP_CHECKS = checks_of(__name__)
