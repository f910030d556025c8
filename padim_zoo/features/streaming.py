"""Large images through a network in bounded memory: in how many bands or blocks, and what that costs.

Networks of known operations take bands row by row (:mod:`padim_zoo.features.rolling`). Of others, blocks have halos as
wide as the receptive field. Both ways features are those of the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from padim_zoo.backbones.backbone import AT_ONCE_PIXELS, Backbone
from padim_zoo.backbones.device import PRECISIONS
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import amount
from padim_zoo.core.spill import return_freed_memory
from padim_zoo.features.blocks import AxisBlock, block_maps, cut_axis
from padim_zoo.features.receptive_field import ReceptiveField, receptive_field
from padim_zoo.features.rolling import RollingBands, rolling_bands

ACTIVATIONS = 6
"""How many times its feature maps a backbone is taken to have in memory: a guess, on the safe side for resnets."""

FAST_BYTES = 300 * 10**6
"""Activations of more are slower, since memory for them comes from the system anew: images are cut before that."""

MOST_BLOCKS = 1024


@dataclass(frozen=True)
class Blocks:
    """How an image is cut.

    Attributes
    ----------
    rows, columns : tuple of AxisBlock
    """

    rows: tuple[AxisBlock, ...]
    columns: tuple[AxisBlock, ...]

    @property
    def largest(self) -> int:
        """Pixels of the largest block, halo included."""
        return max(_lengths(self.rows)) * max(_lengths(self.columns))

    @property
    def overhead(self) -> float:
        """How many times the pixels of the image pass through the network."""
        return (
            sum(_lengths(self.rows)) * sum(_lengths(self.columns)) / (self.rows[-1].core[1] * self.columns[-1].core[1])
        )

    def maps(self, backbone: Backbone, pixels_of: Callable[[Tensor], Tensor], images: Tensor) -> list[Tensor]:
        """The maps of images, as of :meth:`RollingBands.maps`."""
        return_freed_memory()

        def forward(part: Tensor) -> list[Tensor]:
            return backbone.forward_native_dtype(pixels_of(part))

        return block_maps(forward, images, self.rows, self.columns, backbone.strides)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __str__(self) -> str:
        shape = (
            f"{len(self)} bands"
            if 1 in (len(self.rows), len(self.columns))
            else (f"{len(self.rows)} x {len(self.columns)} blocks")
        )
        return f"{shape}, with halos {self.overhead:.2f} times the pixels"


def bytes_per_pixel(backbone: Backbone) -> float:
    """What a pixel of an image is taken to cost while it passes through a network."""
    numbers = sum(channels / stride**2 for channels, stride in zip(backbone.channels, backbone.strides, strict=True))
    return ACTIVATIONS * PRECISIONS[backbone.precision].itemsize * numbers


def images_within(backbone: Backbone, image_size: tuple[int, int], most: int, budget: int) -> int:
    """How many images of a size, up to ``most``, are in work together within so many bytes."""
    pixels = math.prod(image_size)
    is_large = pixels > AT_ONCE_PIXELS and backbone.device.type == "cpu"
    limit = min(FAST_BYTES, budget // 2) if is_large else budget // 2
    return max(1, min(most, int(limit / (bytes_per_pixel(backbone) * pixels))))


def plan_blocks(
    backbone: Backbone, image_size: tuple[int, int], stream: str | int, budget: int, limit: float = math.inf
) -> RollingBands | Blocks | None:
    """How to cut images of a size; None where they pass through the network whole.

    Parameters
    ----------
    backbone : Backbone
    image_size : (int, int)
        Height and width in pixels.
    stream : str or int
        ``"auto"`` for bands that a network takes row by row, which is the fastest way; else, or where a band is too
        wide for the budget, for the fewest blocks that fit, bands before squares. Or about how many bands. On a GPU,
        whose memory is another, ``"auto"`` cuts nothing.
    budget : int
        Bytes to keep within where that can be.
    limit : float
        Bytes beyond which a network that cannot be cut is refused.

    Raises
    ------
    InputError
        If the image has to be cut and the network looks at all of it at once.
    """
    pixels, each = math.prod(image_size), bytes_per_pixel(backbone)
    within = budget // 2 / each
    fast = min(FAST_BYTES / each, within)
    automatic = stream == "auto"
    if stream == 1 or (automatic and (pixels <= AT_ONCE_PIXELS or backbone.device.type != "cpu")):
        return None
    rolling = rolling_bands(backbone, image_size, None if automatic else int(stream), within)
    if rolling is not None and (not automatic or min(rolling.rows * image_size[1], pixels) <= within):
        return rolling if len(rolling) > 1 else None
    if automatic and pixels <= fast:
        return None
    field = receptive_field(backbone)
    if field is None:
        if rolling is not None:
            return rolling if len(rolling) > 1 else None
        if automatic and each * pixels <= limit:
            return None
        why = f"to fit {amount(limit)} of memory" if automatic else f"into {stream} bands"
        instead = "leave out --stream"
        if automatic:
            instead = "allow more memory (--memory), resize (--resize 512), cut it into tiles (--tiles 512+64)"
        raise InputError(
            f"{backbone.name} looks at all of an image at once: {image_size[0]}x{image_size[1]} pixels cannot be cut "
            f"{why}: {instead}, or take a convolutional backbone, e.g. resnet18"
        )
    if isinstance(stream, int):
        blocks = _bands(field, image_size, stream)
        return blocks if len(blocks) > 1 else None
    candidates = list(_by_number(field, image_size))
    fitting = (blocks for blocks in candidates if blocks.largest <= fast)
    return next(fitting, min(candidates, key=lambda blocks: blocks.largest))


def _by_number(field: ReceptiveField, image_size: tuple[int, int]) -> Iterator[Blocks]:
    """Ways to cut an image, those into few blocks first, and bands before squares."""
    short = min(image_size) / max(image_size)
    for count in range(2, MOST_BLOCKS):
        bands = _bands(field, image_size, count)
        if len(bands) == count and bands.overhead <= 2:
            yield bands
        along = round((count / short) ** 0.5)
        across = round(count / along)
        if along > 1 and across > 1 and along * across == count:
            yield _cut(field, image_size, (along, across) if image_size[0] > image_size[1] else (across, along))


def _bands(field: ReceptiveField, image_size: tuple[int, int], count: int) -> Blocks:
    """Bands across the longer side, whose halos are the shorter ones."""
    return _cut(field, image_size, (count, 1) if image_size[0] >= image_size[1] else (1, count))


def _cut(field: ReceptiveField, image_size: tuple[int, int], counts: tuple[int, int]) -> Blocks:
    rows, columns = (
        tuple(cut_axis(length, count, field.period, before, after))
        for length, count, before, after in zip(image_size, counts, field.before, field.after, strict=True)
    )
    return Blocks(rows, columns)


def _lengths(blocks: Sequence[AxisBlock]) -> list[int]:
    return [block.block[1] - block.block[0] for block in blocks]
