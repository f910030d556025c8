"""The geometry of an image before the backbone: resize, then center crop, as torchvision does it on PIL images.

Numbered regions are resized so that whatever covers part of a pixel marks it. Nearest neighbors would tear a mark that
is narrower than the scale, or lose it; each speck would then count as a defect of its own. Here a region keeps its
number, and a pixel that two regions cover is of the one that covers more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median_low
from typing import Any

import numpy as np
from PIL import Image

from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import LARGEST_SIDE, is_whole
from padim_zoo.data.pixel_limit import max_pixels

LEAST_RATIO = 1.25
"""Pixels along a side of an image for each one of the resize, from which on finer pixels hold more than these."""

MASK_RULES = ("area", "nearest")
"""How masks are resized: any covered pixel counts, or the nearest one decides."""

Size = int | tuple[int, int] | None


def parse_size(text: str) -> Size:
    """Read a size as the command line gives it: ``"256"``, ``"256x320"`` (height x width) or ``"none"``.

    Raises
    ------
    InputError
        If the text is none of these, or a number is zero.
    """
    lower = text.strip().lower()
    if lower == "none":
        return None
    match = re.fullmatch(r"0*([1-9][0-9]*)(?:x0*([1-9][0-9]*))?", lower, re.ASCII)
    if match is None:
        raise InputError(f"cannot read the size {text!r}: expected N, HEIGHTxWIDTH (e.g. 256x320) or none")
    height, width = match.groups()
    return int(height) if width is None else (int(height), int(width))


def choose_grid(sizes: Iterable[tuple[int, int]], resize: int, stride: int) -> tuple[int, int]:
    """The size in pixels that all images of a data set are resized to, where no crop makes them equal.

    The shorter side is ``resize``, the longer one follows from the median aspect. Both are rounded to the nearest
    multiple of the stride, so that the grids of all layers nest.

    Parameters
    ----------
    sizes : iterable of (int, int)
        Height and width of every image, upright. Of a data set in parts, those of all parts.
    resize : int
        Length of the shorter side in pixels.
    stride : int
        The coarsest one of the layers that are used, in pixels.

    Returns
    -------
    height, width : int

    Raises
    ------
    InputError
        If there are no sizes.
    """
    # Of an even number the lower median is taken: an aspect that an image has, and no average of two kinds.
    aspects = [Fraction(width, height) for height, width in sizes]
    if not aspects:
        raise InputError("no images were given: expected at least one")
    aspect: Fraction = median_low(aspects)
    height, width = resize * max(Fraction(1), 1 / aspect), resize * max(Fraction(1), aspect)
    return _nearest_multiple(height, stride), _nearest_multiple(width, stride)


def _nearest_multiple(length: Fraction, stride: int) -> int:
    """At least one stride; a half is rounded up."""
    return max(1, math.floor(length / stride + Fraction(1, 2))) * stride


def count_other_aspects(sizes: Iterable[tuple[int, int]], grid: tuple[int, int], stride: int) -> int:
    """How many images would have another grid by themselves: those that the resize to this one distorts."""
    return sum(choose_grid([size], min(grid), stride) != grid for size in sizes)


class TransformError(InputError):
    """A crop larger than the image that it is cut from, or an image that a resize makes too large."""


@dataclass(frozen=True)
class Transform:
    """Resize, then cut out the center.

    Parameters
    ----------
    resize : int, (int, int) or None
        Length of the shorter side in pixels, the aspect ratio being kept; or height and width; or None to keep the
        image's size. Bilinear with antialiasing.
    crop : int, (int, int) or None
        Side of the square, or height and width, cut out of the center; None keeps all.
    bit_depth : int, optional
        Bits that samples of more than 8 bits use, as :func:`~padim_zoo.data.image.read_image` takes it.
    finer : int
        Pixels along a side for each one that ``resize`` and ``crop`` ask for: of images that are moved before they are
        reduced. Of an image that has no finer ones each pixel is repeated.

    Raises
    ------
    InputError
        If a length is not a positive integer.
    """

    resize: Size
    crop: Size
    bit_depth: int | None = None
    finer: int = 1

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            object.__setattr__(self, name, check_size(name, getattr(self, name)))
        if self.bit_depth is not None and not is_whole(self.bit_depth, 8, 16):
            raise InputError(f"bit_depth is {self.bit_depth!r}: expected a whole number from 8 to 16")

    @property
    def leaves_grid(self) -> bool:
        """Whether only images tell the size that all of them are resized to: see :func:`choose_grid`."""
        return isinstance(self.resize, int) and self.crop is None

    def on_grid(self, grid: tuple[int, int] | None) -> Transform:
        """With the size that the images told, where it is left to them."""
        return replace(self, resize=grid) if self.leaves_grid and grid is not None else self

    def visible_share(self, height: int, width: int) -> float:
        """The share of an image of the given size that the crop leaves."""
        resized = self.resized_size(height, width)
        top, left, bottom, right = self.crop_box(*resized)
        return (bottom - top) * (right - left) / (resized[0] * resized[1])

    def visible(self, array: np.ndarray) -> np.ndarray:
        """The part (h, w) of an image or mask (H, W) that the crop leaves, in the image's own pixels."""
        height, width = array.shape[:2]
        resized = self.resized_size(height, width)
        top, left, bottom, right = self.crop_box(*resized)
        rows = _pixels(top * height / resized[0], bottom * height / resized[0], height)
        columns = _pixels(left * width / resized[1], right * width / resized[1], width)
        return array[rows, columns]

    def own_part(self, values: np.ndarray, height: int, width: int) -> np.ndarray:
        """What of a map is of an image (H, W) itself: all, unless images of several sizes lie on one canvas."""
        own = self.output_size(height, width)
        return values[: own[0], : own[1]]

    def on_original(self, values: np.ndarray, height: int, width: int) -> np.ndarray:
        """A map (h, w) of what the transform leaves, on the image (H, W) that it was made of; NaN where it looks not.

        Parameters
        ----------
        values : ndarray (h, w)
            NaN where nothing is known.
        height, width : int
            Of the image, upright.

        Returns
        -------
        ndarray (H, W), float32
        """
        values = self.own_part(values, height, width)
        whole = np.full((height, width), np.nan, dtype=np.float32)
        part = self.visible(whole)
        known = ~np.isnan(values)
        filled = _stretched(np.where(known, values, 0), part.shape, Image.Resampling.BILINEAR)
        weights = _stretched(known, part.shape, Image.Resampling.BILINEAR)
        seen = _stretched(known, part.shape, Image.Resampling.NEAREST) > 0
        part[seen] = filled[seen] / weights[seen]
        return whole

    def __str__(self) -> str:
        return f"resize {_text(self.resize)}, crop {_text(self.crop)}"

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image after the resize, before the crop."""
        rows, columns = self._asked_size(height, width)
        return self.finer * rows, self.finer * columns

    def _asked_size(self, height: int, width: int) -> tuple[int, int]:
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        # torchvision truncates the longer side; rounding would shift crops by a pixel against published results.
        if width <= height:
            return int(self.resize * height / width), self.resize
        return self.resize, int(self.resize * width / height)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image of the given size after the transform.

        Raises
        ------
        InputError
            If the crop is larger than the resized image.
        """
        top, left, bottom, right = self.crop_box(*self.resized_size(height, width))
        return bottom - top, right - left

    def has_finer(self, height: int, width: int) -> bool:
        """Whether an image of the given size has finer pixels than those that are asked for."""
        asked = self._asked_size(height, width)
        return min(height / asked[0], width / asked[1]) >= LEAST_RATIO

    def image(self, image: np.ndarray) -> np.ndarray:
        """Transform an image.

        Parameters
        ----------
        image : ndarray (H, W, 3), uint8
            As :func:`~padim_zoo.data.image.read_image` gives it.

        Returns
        -------
        ndarray (H', W', 3), uint8, contiguous
        """
        self.output_size(*image.shape[:2])  # a crop that does not fit is refused before the work
        return self.cropped(self.resized(image))

    def mask(self, mask: np.ndarray, rule: str = MASK_RULES[0]) -> np.ndarray:
        """Transform a mask, or numbered regions, so that they stay in register with their image.

        Parameters
        ----------
        mask : ndarray (H, W), bool or int32
            True where anomalous; or 0, and k in region k.
        rule : str
            ``"area"``: a pixel is marked if any of it is covered, see :mod:`padim_zoo.data.transform`;
            ``"nearest"``: if its nearest neighbor is, as published figures have it.

        Returns
        -------
        ndarray (H', W'), of the type of the mask, contiguous
        """
        height, width = self.resized_size(*mask.shape)
        self.crop_box(height, width)  # as above
        if (height, width) == mask.shape:
            resized = mask
        elif rule == "nearest":
            picture = Image.fromarray(mask.astype(np.int32))
            resized = np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))
        else:
            resized = resize_regions(mask.astype(np.int32), (height, width))
        return self.cropped(resized).astype(mask.dtype)

    def resized(self, array: np.ndarray, resampling: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
        """An image (H, W, 3) or mask (H, W), uint8, after the resize and before the crop."""
        if self.finer > 1 and not self.has_finer(*array.shape[:2]):
            asked = replace(self, finer=1).resized(array, resampling)
            return asked.repeat(self.finer, 0).repeat(self.finer, 1)
        size = self.resized_size(*array.shape[:2])
        if size == array.shape[:2]:
            return array
        if size[0] * size[1] > max(max_pixels(), array.shape[0] * array.shape[1]):  # of a very long, narrow image
            raise TransformError(
                f"the resize {_text(self.resize)} makes {size[0]}x{size[1]} pixels of {array.shape[0]}x"
                f"{array.shape[1]}, of which at most {max_pixels():,} are read: cut the image into tiles"
            )
        if self.finer > 1 and (size[0] > array.shape[0] or size[1] > array.shape[1]):
            resampling = Image.Resampling.BICUBIC  # a bilinear enlargement blurs
        return np.asarray(Image.fromarray(array).resize(size[::-1], resampling))

    def cropped(self, resized: np.ndarray) -> np.ndarray:
        """The crop of what :meth:`resized` gave, contiguous."""
        top, left, bottom, right = self.crop_box(*resized.shape[:2])
        return np.ascontiguousarray(resized[top:bottom, left:right])

    def to_dict(self) -> dict[str, Any]:
        """What the parameters of a detector say, in JSON's types."""
        sizes = {"resize": self.resize, "crop": self.crop, "bit_depth": self.bit_depth}
        return {name: list(size) if isinstance(size, tuple) else size for name, size in sizes.items()}

    @classmethod
    def from_dict(cls, parameters: Mapping[str, Any]) -> Transform:
        """The inverse of :meth:`to_dict`."""
        return cls(**parameters)

    def crop_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of the crop in a resized image.

        Raises
        ------
        InputError
            If the crop is larger than that.
        """
        if self.crop is None:
            return 0, 0, height, width
        crop_height, crop_width = self.crop if isinstance(self.crop, tuple) else (self.crop, self.crop)
        height, width = height // self.finer, width // self.finer
        if crop_height > height or crop_width > width:
            raise TransformError(
                f"the crop {crop_height}x{crop_width} is larger than the image, which is {height}x{width} "
                f"(height x width) after the resize {_text(self.resize)}: choose a smaller crop, crop none, or a "
                "larger resize"
            )
        # Python rounds halves to even, and so does torchvision's CenterCrop.
        top, left = round((height - crop_height) / 2), round((width - crop_width) / 2)
        box = top, left, top + crop_height, left + crop_width
        return tuple(self.finer * side for side in box)  # type: ignore[return-value]


def _pixels(start: float, stop: float, length: int) -> slice:
    """Whole pixels of a side from ``start`` to ``stop``, and at least one."""
    first = min(round(start), length - 1)
    return slice(first, max(round(stop), first + 1))


def _stretched(values: np.ndarray, shape: tuple[int, ...], resampling: Image.Resampling) -> np.ndarray:
    picture = Image.fromarray(np.asarray(values, dtype=np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), resampling))


def check_size(name: str, size: Any) -> Size:
    """A length, or height and width as a tuple; None for none.

    Raises
    ------
    InputError
        If a length is not a positive integer.
    """
    if size is None:
        return None
    lengths = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(lengths) != 2 or not all(is_whole(n, 1, LARGEST_SIDE) for n in lengths):
        raise InputError(f"{name} is {size!r}: expected an integer from 1 to {LARGEST_SIDE}, (height, width) or None")
    return size if isinstance(size, int) else (lengths[0], lengths[1])


def _text(size: Size) -> str:
    if size is None:
        return "none"
    return f"{size[0]}x{size[1]}" if isinstance(size, tuple) else str(size)


def resize_regions(regions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize numbered regions by the area that they cover, in whole numbers and so exactly.

    Parameters
    ----------
    regions : ndarray (H, W), int32
        0 where nothing is marked.
    size : tuple of int
        Height h and width w.

    Returns
    -------
    ndarray (h, w), int32
        Of equal areas the lower number wins.
    """
    from scipy import ndimage  # predict need not wait for it

    resized = np.zeros(size, dtype=np.int32)
    most = np.zeros(size)
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        if box is None:
            continue
        first, rows = _overlaps(regions.shape[0], size[0], box[0])
        left, columns = _overlaps(regions.shape[1], size[1], box[1])
        # Whole numbers of at most H·W, which float64 holds exactly, and has fast products for.
        area = rows @ (regions[box] == number).astype(np.float64) @ columns.T
        place = slice(first, first + len(rows)), slice(left, left + len(columns))
        larger = area > most[place]
        resized[place][larger] = number
        most[place][larger] = area[larger]
    return resized


def _overlaps(length: int, target: int, part: slice) -> tuple[int, np.ndarray]:
    """How much each pixel of a resized axis shares with each pixel of a part of the axis.

    Returns
    -------
    first : int
        The first resized pixel that shares anything.
    overlaps : ndarray (m, n), float64
        Of m resized pixels and the n of the part, in whole parts of ``1 / (length * target)`` of the
        axis.
    """
    first, last = part.start * target // length, -(-part.stop * target // length)
    resized = np.arange(first, last)[:, None]
    pixels = np.arange(part.start, part.stop)
    upper = np.minimum((resized + 1) * length, (pixels + 1) * target)
    return first, np.maximum(upper - np.maximum(resized * length, pixels * target), 0).astype(np.float64)
