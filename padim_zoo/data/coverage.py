"""What a transform looks at: the share of each image that it leaves, and of the area that is annotated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from padim_zoo.core.errors import InputError
from padim_zoo.data.image import image_size
from padim_zoo.data.mask import read_mask
from padim_zoo.data.sample import Sample
from padim_zoo.data.transform import Transform, count_other_aspects

ALL = 0.9995
"""Shares from here on are said to be all."""


@dataclass(frozen=True)
class Coverage:
    """What is looked at of some images.

    Attributes
    ----------
    transform : Transform
    image_share : float
        The mean share of an image that is looked at; NaN of no image.
    least_image_share : float
        The share of the image of which the least is looked at.
    annotated_share : float or None
        The share of all annotated pixels; None without masks.
    other_aspect : int or None
        Images that are resized to a grid of another aspect; None where images did not choose the grid.
    images : int
        Those whose size is known.
    """

    transform: Transform
    image_share: float
    least_image_share: float
    annotated_share: float | None
    other_aspect: int | None
    images: int

    def __str__(self) -> str:
        return f"{self.transform}: {self.shares}"

    @property
    def shares(self) -> str:
        """What is looked at, in words."""
        if math.isnan(self.image_share):
            return "no image tells what is looked at"
        if self.image_share - self.least_image_share < 0.005:
            text = f"looks at {percent(self.image_share)} of each image"
        else:
            text = (
                f"looks at {percent(self.image_share)} of the images, at least {percent(self.least_image_share)} of "
                "each"
            )
        if self.annotated_share is not None:
            text += f" and {percent(self.annotated_share)} of the annotated area"
        return text

    @property
    def note(self) -> str | None:
        """What is to be said of images of another aspect, if there are any."""
        return other_aspects(self.other_aspect, self.images, self.transform) if self.other_aspect else None

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {
            **self.transform.to_dict(),
            "image_share": self.image_share,
            "least_image_share": self.least_image_share,
            "annotated_share": self.annotated_share,
            "other_aspect": self.other_aspect,
        }


def other_aspects(count: int, images: int, transform: Transform) -> str:
    """The note on images that the grid distorts."""
    assert isinstance(transform.resize, tuple)
    height, width = transform.resize
    return f"{count} of {images} images have another aspect than {height}x{width}: they are resized to it all the same"


def coverage(
    transform: Transform,
    images: Iterable[Path | Sample],
    stride: int | None = None,
    *,
    orientation: str | None = None,
) -> Coverage:
    """What a transform looks at of images, by their headers and masks; what cannot be read is left out.

    Parameters
    ----------
    transform : Transform
        With its grid, if it has one.
    images : iterable of path or Sample
        The masks of samples count.
    stride : int, optional
        The coarsest one of the layers, where images chose the grid: those of another aspect are counted.
    orientation : str, optional
        What masks were drawn on, as of :func:`~padim_zoo.data.mask.read_mask`.
    """
    items = list(images)
    look = partial(_look, transform, orientation)
    with ThreadPoolExecutor() as pool:
        looked_at = [one for one in pool.map(look, items) if one is not None]
    shares = [share for _, share, _, _ in looked_at]
    marked = sum(total for _, _, _, total in looked_at)
    sizes, other_aspect = [size for size, _, _, _ in looked_at], None
    if stride is not None and isinstance(transform.resize, tuple) and transform.crop is None:
        other_aspect = count_other_aspects(sizes, transform.resize, stride)
    return Coverage(
        transform,
        sum(shares) / len(shares) if shares else math.nan,
        min(shares, default=math.nan),
        sum(seen for _, _, seen, _ in looked_at) / marked if marked else None,
        other_aspect,
        len(sizes),
    )


def _look(
    transform: Transform, orientation: str | None, item: Path | Sample
) -> tuple[tuple[int, int], float, int, int] | None:
    """Size and visible share of an image, and its marked pixels: those that are visible, and all."""
    path, masks = (item.path, item.masks) if isinstance(item, Sample) else (item, ())
    try:
        size = image_size(path)
        share = transform.visible_share(*size)
        if not masks:
            return size, share, 0, 0
        mask = read_mask(masks, size, path, orientation=orientation).astype(bool)
    except InputError:  # the fit or the prediction says what is wrong
        return None
    return size, share, int(transform.visible(mask).sum()), int(mask.sum())


def percent(share: float) -> str:
    """A share in whole percent; "all" is said of nothing less."""
    if share >= ALL:
        return "all"
    return f"{min(99, max(1, round(100 * share))) if share else 0} %"
