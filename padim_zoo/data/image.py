"""Image files and in-memory images to one form: uint8 RGB arrays (H, W, 3)."""

from __future__ import annotations

import functools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from padim_zoo.core.errors import InputError
from padim_zoo.data.bit_depth import DEPTHS, FULL_DEPTH, OUTLIERS, counts_of_picture, largest_of, white_of
from padim_zoo.data.decoding import Picture, geometry, is_animated, pages_of, picture_of
from padim_zoo.data.file_notes import BACKGROUND, DEEP_ENOUGH, note
from padim_zoo.data.opening import in_turn, open_image

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
)

_THUMBNAIL = 2
_BAND = 2**20


def is_image_file(path: Path) -> bool:
    """Whether a file's name says that it is an image: a known suffix in any case, and not hidden (``._x.png``)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_image(path: str | Path, bit_depth: int | None = None) -> np.ndarray:
    """Read an image file as 8-bit RGB.

    Gray becomes three equal channels, transparent pixels are laid on black, samples of more than 8 bits are scaled by
    the bit depth (never by the image's own range) and the EXIF orientation is applied. Of several pages or frames the
    first is read. What docs/image-files.md says of such files is noted (:mod:`padim_zoo.data.file_notes`).

    Parameters
    ----------
    path : str or Path
    bit_depth : int, optional
        Bits that samples of more than 8 bits use; by default as many as the file states, else 16.

    Returns
    -------
    ndarray (H, W, 3), uint8

    Raises
    ------
    InputError
        If the file is missing, truncated, not an image, or larger than
        :func:`~padim_zoo.data.pixel_limit.max_pixels`; or if its first page is a thumbnail of another.
    """
    with in_turn(Path(path)):
        return _read(Path(path), bit_depth)


def _read(path: Path, bit_depth: int | None) -> np.ndarray:
    name = str(path)
    image = open_image(path)
    if pages_of(image) > 1:
        _check_first_page(image, name)
        note("frames" if is_animated(image) else "pages", name)
    picture = picture_of(image, name)
    if picture.mode == "CMYK":
        note("cmyk", name)
    if picture.alpha is not None:
        note("transparent", name)
    if picture.deep and bit_depth is not None:
        _note_depth(picture, bit_depth, name)
    return _to_rgb(picture, bit_depth, name)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width that :func:`read_image` would give, from the header where that is enough."""
    return geometry(Path(path)).shown


def image_mode(path: str | Path) -> str:
    """Pillow's name for how a file stores its samples, e.g. ``"L"``, ``"RGB"``, ``"P"`` or ``"I;16"``."""
    return open_image(Path(path)).mode


def _check_first_page(image: Image.Image, name: str) -> None:
    """Refuse a file whose first page is a small picture of another one."""
    sizes = [image.size]
    try:
        for page in range(1, pages_of(image)):
            image.seek(page)
            sizes.append(image.size)
    except Exception:
        pass  # a later page that is broken is none that is read
    image.seek(0)
    width, height = sizes[0]
    for page, size in enumerate(sizes, start=1):
        if size[0] >= _THUMBNAIL * width and size[1] >= _THUMBNAIL * height:
            raise InputError(
                f"{name} has a first page of {height}x{width} pixels, a thumbnail of page {page} of "
                f"{size[1]}x{size[0]}: save that page as a file of its own"
            )


def _note_depth(picture: Picture, bit_depth: int, name: str) -> None:
    counts = counts_of_picture(picture)
    if np.count_nonzero(picture.samples > largest_of(bit_depth)) > OUTLIERS * counts.total:
        note("deeper", name)
    elif counts.depth < bit_depth:
        note("shallower", name)
    else:
        note(DEEP_ENOUGH, name)


def to_image(image: Any, name: str = "image", bit_depth: int | None = None) -> np.ndarray:
    """Convert an in-memory image to 8-bit RGB.

    Parameters
    ----------
    image : PIL image, ndarray or Tensor
        Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); tensors (H, W), (1, H, W), (3, H, W) or (4, H, W). The
        fourth channel is alpha: transparent pixels are laid on black. Samples are uint8, uint16 or float in [0, 1].
    name : str
        What errors call the image.
    bit_depth : int, optional
        Bits that uint16 samples use; 16 by default.

    Returns
    -------
    ndarray (H, W, 3), uint8

    Raises
    ------
    InputError
        If it is none of these.
    """
    if isinstance(image, Image.Image):
        return _to_rgb(picture_of(image, name), bit_depth, name)
    # Nothing can be a tensor unless torch is imported already, and reading files should not import it.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(image, torch.Tensor):
        # numpy has no bfloat16; float32 holds every half precision value exactly.
        array = (image.float() if image.is_floating_point() else image).numpy(force=True)
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
        expected = "a tensor (3, H, W), (1, H, W) or (H, W)"
    elif isinstance(image, np.ndarray):
        array = image
        expected = "an array (H, W, 3), (H, W, 1) or (H, W)"
    else:
        raise InputError(f"{name} is a {type(image).__name__}: expected a path, a PIL image, an array or a tensor")
    if array.dtype == np.int32:  # which files may have
        raise InputError(f"{name} has samples of type int32: expected uint8, uint16 or float in [0, 1]")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or array.size == 0:
        raise InputError(f"{name} has shape {tuple(image.shape)}: expected {expected}")
    array = np.atleast_3d(array)
    alpha = array[:, :, 3] if array.shape[2] == 4 else None
    if alpha is not None and (alpha == alpha.flat[0]).all():
        alpha = None
    if array.dtype == np.uint16 and bit_depth is not None:
        _note_depth(Picture(array[:, :, :3]), bit_depth, name)
    if alpha is not None:
        note("transparent", name)
    return _to_rgb(Picture(array[:, :, :3], alpha), bit_depth, name)


def _to_rgb(picture: Picture, bit_depth: int | None, name: str) -> np.ndarray:
    """The samples as 8-bit RGB, of their own memory."""
    if bit_depth is None:
        bit_depth = counts_of_picture(picture).depth if picture.bits else FULL_DEPTH
    white = white_of(bit_depth)
    samples, alpha = np.atleast_3d(picture.samples), picture.alpha
    if samples.dtype != np.uint8:
        _refuse_values(samples, name)
    opaque = white
    if alpha is not None:
        _refuse_values(alpha, f"the alpha of {name}")
        # An opaque pixel has the largest value of its type, or white where the image keeps to its bit depth.
        opaque = white if alpha.max() <= largest_of(bit_depth) else largest_of(FULL_DEPTH)
    height, width = samples.shape[:2]
    rgb = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, step := max(1, _BAND // width)):  # in floating point all of it would be gigabytes
        rows = slice(top, top + step)
        levels = samples[rows]
        if levels.dtype != np.uint8:
            levels = _to_uint8(levels, white, picture.white_is_zero)
        if alpha is not None:
            share = _to_uint8(alpha[rows][:, :, None], opaque).astype(np.float32) / 255
            levels = np.rint(BACKGROUND + (levels - np.float32(BACKGROUND)) * share).astype(np.uint8)
        rgb[rows] = levels
    return rgb


def _refuse_values(array: np.ndarray, name: str) -> None:
    """Refuse samples of a type or range that has no place in 8 bits."""
    if array.dtype in (np.uint8, np.uint16):  # uint8 of alpha
        return
    if array.dtype == np.int32:
        least, most = int(array.min()), int(array.max())
        if least < 0 or most > largest_of(FULL_DEPTH):
            raise InputError(
                f"{name} has values from {least} to {most}: expected at most 16 bits, 0 to {largest_of(FULL_DEPTH)}"
            )
        return
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{name} has samples of type {array.dtype}: expected uint8, uint16 or float in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if math.isnan(low):
        raise InputError(f"{name} has values that are not a number (NaN): expected floating-point images in [0, 1]")
    # Interpolation in floating point may overshoot a little; half a gray level rounds back into the range.
    if not (low >= -0.5 / 255 and high <= 1 + 0.5 / 255):
        raise InputError(
            f"{name} has values from {low:.4g} to {high:.4g}: floating-point images must be in [0, 1] and not "
            "normalized (the backbone does that)"
        )


def _to_uint8(array: np.ndarray, white: int, inverted: bool = False) -> np.ndarray:
    """Samples scaled so that white is 255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype in (np.uint16, np.int32):
        cut = np.minimum(array, white)
        return np.asarray(_levels_of(white)[white - cut if inverted else cut])
    return np.asarray(np.rint(array.clip(0, 1).astype(np.float64) * 255).astype(np.uint8))


@functools.lru_cache(maxsize=len(DEPTHS))
def _levels_of(white: int) -> np.ndarray:
    """The 8-bit level of each sample up to white."""
    return np.asarray(np.rint(np.arange(white + 1) * (255 / white)).astype(np.uint8))


def size_text(size: Any) -> str:
    """Height and width as messages give them: ``256x320``."""
    return f"{size[0]}x{size[1]}"
