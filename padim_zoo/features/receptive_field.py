"""How far a network looks: found by testing it, whatever it is called.

Pixels that are not a number spoil every position that depends on them, through all usual operations. Which positions
of a layer they spoil says how far it looks. The answer is then held to features of a whole image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.memory import is_out_of_memory
from padim_zoo.features.blocks import AxisBlock, block_maps

LONGEST = 4096
"""Pixels beyond which a network is taken to look at all of an image."""

LARGEST_PERIOD = 64
"""Pixels: strides inside a network may be larger than those of its layers, by at most so much."""

TOLERANCES = {"float32": 1e-5, "bfloat16": 5e-2}
"""By which features of blocks may differ from those of the whole image, as a share of the largest of a layer."""

_fields: WeakKeyDictionary[Backbone, ReceptiveField | None] = WeakKeyDictionary()


@dataclass(frozen=True)
class ReceptiveField:
    """What the features of a block of pixels depend on.

    Attributes
    ----------
    period : int
        Blocks that start at multiples of so many pixels are sampled as the whole image is.
    before, after : (int, int)
        Pixels above and to the left, and below and to the right, of a block that its features depend on.
    """

    period: int
    before: tuple[int, int]
    after: tuple[int, int]


def receptive_field(backbone: Backbone) -> ReceptiveField | None:
    """The receptive field of a backbone, found at the first call; None where it looks at all of an image."""
    if backbone not in _fields:
        _fields[backbone] = _find(backbone)
    return _fields[backbone]


def _find(backbone: Backbone) -> ReceptiveField | None:
    period = math.lcm(*backbone.strides)
    try:
        while period <= max(LARGEST_PERIOD, max(backbone.strides)):
            reaches = [_reach(backbone, period, axis) for axis in (0, 1)]
            if None in reaches:
                return None
            (above, below), (left, right) = (reach for reach in reaches if reach is not None)
            for wider in (0, period):  # where padding depends on the size, images of other sizes look further
                field = ReceptiveField(period, (above + wider, left + wider), (below + wider, right + wider))
                if all(_is_exact(backbone, field, axis) for axis in (0, 1)):
                    return field
            period *= 2
    except Exception as error:  # a network that takes images of few sizes, or whatever else its own code raises
        if is_out_of_memory(error):
            raise
    return None


def _reach(backbone: Backbone, period: int, axis: int) -> tuple[int, int] | None:
    """Pixels before and after a block that it depends on along one axis, in whole periods; None for all pixels."""
    length = 8 * period * math.ceil(64 / period)
    while length <= LONGEST:
        middle = length // (2 * period) * period
        images = torch.zeros(1, 3, *_size(backbone, length, axis), device=backbone.device)
        images.narrow(2 + axis, middle, period).fill_(torch.nan)
        with torch.enable_grad():  # fused operations, which may hide what is no number, have no gradients
            maps = backbone.compute(images)
        reach = [0, 0]
        for layer, stride in zip(maps, backbone.strides, strict=True):
            spoiled = layer.isnan().any(1)[0].any(1 - axis).nonzero().flatten()
            if not len(spoiled) or spoiled[0] == 0 or spoiled[-1] == layer.shape[2 + axis] - 1:
                break
            first, last = (int(position) * stride // period * period for position in (spoiled[0], spoiled[-1]))
            reach = [max(reach[0], last - middle), max(reach[1], middle - first)]
        else:
            return reach[0], reach[1]
        length *= 2
    return None


def _is_exact(backbone: Backbone, field: ReceptiveField, axis: int) -> bool:
    """Whether three bands along one axis, of which one lies inside, give the features of the whole image."""
    start = field.before[axis] + field.period
    stop = start + field.period
    length = stop + field.after[axis] + field.period + 5
    size = _size(backbone, length, axis)
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(backbone.device)
    bands = [
        AxisBlock.of(core, length, field.period, field.before[axis], field.after[axis])
        for core in ((0, start), (start, stop), (stop, length))
    ]
    across = [AxisBlock.of((0, size[1 - axis]), size[1 - axis], field.period, 0, 0)]
    rows, columns = (bands, across) if axis == 0 else (across, bands)
    with torch.no_grad():
        whole = backbone(images)
        cut = block_maps(backbone, images, rows, columns, backbone.strides)
    return agree(whole, cut, backbone.precision)


def agree(whole: Sequence[Tensor], cut: Sequence[Tensor], precision: str) -> bool:
    """Whether the features of parts of images are those of whole images, so far as the type of the network goes."""
    tolerance = TOLERANCES[precision]
    return all(
        one.shape == other.shape and float((one - other).abs().max()) <= tolerance * float(one.abs().max())
        for one, other in zip(whole, cut, strict=True)
    )


def _size(backbone: Backbone, length: int, axis: int) -> tuple[int, int]:
    """Height and width of an image that is long along one axis, and of no even size along the other."""
    across = backbone.example_size[1 - axis] + 5
    return (length, across) if axis == 0 else (across, length)
