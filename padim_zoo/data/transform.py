"""The geometry of an image before the backbone: resize, then center crop, as torchvision does it on PIL images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import LARGEST_SIDE, is_whole

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


class CropError(InputError):
    """A crop larger than the image that it is cut from."""


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

    Raises
    ------
    InputError
        If a length is not a positive integer.
    """

    resize: Size
    crop: Size

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            object.__setattr__(self, name, check_size(name, getattr(self, name)))

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image after the resize, before the crop."""
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
        return self._apply(image, Image.Resampling.BILINEAR)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Transform a mask by nearest neighbor, so that it stays in register with its image.

        Parameters
        ----------
        mask : ndarray (H, W), bool
            True where anomalous.

        Returns
        -------
        ndarray (H', W'), bool, contiguous
        """
        return self._apply(mask.astype(np.uint8), Image.Resampling.NEAREST).astype(bool)

    def resized(self, array: np.ndarray, resampling: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
        """An image (H, W, 3) or mask (H, W), uint8, after the resize and before the crop."""
        size = self.resized_size(*array.shape[:2])
        if size == array.shape[:2]:
            return array
        return np.asarray(Image.fromarray(array).resize(size[::-1], resampling))

    def cropped(self, resized: np.ndarray) -> np.ndarray:
        """The crop of what :meth:`resized` gave, contiguous."""
        top, left, bottom, right = self.crop_box(*resized.shape[:2])
        return np.ascontiguousarray(resized[top:bottom, left:right])

    def to_dict(self) -> dict[str, Any]:
        """The parameters in JSON's types."""
        sizes = {"resize": self.resize, "crop": self.crop}
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
        if crop_height > height or crop_width > width:
            raise CropError(
                f"the crop {crop_height}x{crop_width} is larger than the image, which is {height}x{width} "
                f"(height x width) after the resize {_text(self.resize)}: choose a smaller crop, crop none, or a "
                "larger resize"
            )
        # Python rounds halves to even, and so does torchvision's CenterCrop.
        top, left = round((height - crop_height) / 2), round((width - crop_width) / 2)
        return top, left, top + crop_height, left + crop_width

    def _apply(self, array: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
        self.output_size(*array.shape[:2])  # a crop that does not fit is refused before the work
        return self.cropped(self.resized(array, resampling))


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
        raise InputError(
            f"{name} is {size!r}: expected a positive integer up to {LARGEST_SIDE}, (height, width) or None"
        )
    return size if isinstance(size, int) else (lengths[0], lengths[1])


def _text(size: Size) -> str:
    if size is None:
        return "none"
    return f"{size[0]}x{size[1]}" if isinstance(size, tuple) else str(size)
