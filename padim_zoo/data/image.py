"""Image files and in-memory images to one form: uint8 RGB arrays (H, W, 3); mask files to bool (H, W)."""

from __future__ import annotations

import functools
import io
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError, features

from padim_zoo.core.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

MAX_PIXELS = 2**30
"""Largest image that is decoded: 3 GB as RGB. Pillow's own limit stops well below what line-scan cameras give."""

_GRAY_LEVELS_16_BIT = 65535
_ROTATED_ORIENTATIONS = (5, 6, 7, 8)
_EXIF_ORIENTATION = 0x0112

# Pillow's limit is a global that Image.open reads; it is lifted only while a header is parsed.
_pillow_limit = threading.Lock()


def is_image_file(path: Path) -> bool:
    """Whether a file's name says that it is an image: a known suffix in any case, and not hidden (``._x.png``)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as 8-bit RGB.

    Gray becomes three equal channels, alpha is dropped, 16-bit samples are scaled by their bit depth (never by the
    image's own range) and the EXIF orientation is applied. Of several pages or frames the first is read.

    Returns
    -------
    ndarray (H, W, 3), uint8

    Raises
    ------
    InputError
        If the file is missing, truncated, not an image, or has more than :data:`MAX_PIXELS` pixels.
    """
    return _to_rgb(_decode(Path(path)), str(path))


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width that :func:`read_image` would give, from the header where that is enough."""
    image = _open(Path(path))
    width, height = image.size
    if width == height:  # a PNG is decoded to its end for its EXIF data, which would tell nothing here
        return height, width
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception as error:
        raise _broken(str(path), error) from None
    return (width, height) if orientation in _ROTATED_ORIENTATIONS else (height, width)


def stored_size(path: str | Path) -> tuple[int, int] | None:
    """Height and width before the EXIF orientation, from no more of a file than its header; None if that is broken.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with Path(path).open("rb") as file:
        try:
            width, height = _header(file).size
        except Exception:  # as of _open, but it is for whoever decodes the file to say so
            return None
    return height, width


@functools.cache
def decoder() -> str:
    """What decides pixels besides the file: Pillow, and the libraries that it decodes with."""
    libraries = [f"{name} {features.version(name)}" for name in ("jpg", "libtiff", "webp")]
    return "; ".join([f"Pillow {PIL.__version__}", *libraries])


def image_mode(path: str | Path) -> str:
    """Pillow's name for how a file stores its samples, e.g. ``"L"``, ``"RGB"``, ``"P"`` or ``"I;16"``."""
    return _open(Path(path)).mode


def read_mask(paths: Sequence[Path], size: tuple[int, int], image: Path | None = None) -> np.ndarray:
    """Read the union of ground-truth masks: a pixel is anomalous where any of them is not zero.

    Parameters
    ----------
    paths : sequence of Path
        Mask files. Alpha is ignored.
    size : tuple of int
        Height and width of the image that the masks belong to.
    image : Path, optional
        That image, named by the error.

    Returns
    -------
    ndarray (H, W), bool

    Raises
    ------
    InputError
        If a mask cannot be read or has another size.
    """
    union = np.zeros(size, dtype=bool)
    for path in paths:
        decoded = _decode(Path(path))
        # Deep samples are not scaled: that would round a small mark to zero.
        samples = np.asarray(decoded) if _is_deep(decoded) else _to_rgb(decoded, str(path))
        mask = np.atleast_3d(samples).any(axis=2)
        if mask.shape != tuple(size):
            of_image = f"its image {image}" if image is not None else "its image"
            raise InputError(
                f"mask {path} is {size_text(mask.shape)} but {of_image} is {size_text(size)} (height x width): "
                "a mask must have its image's size"
            )
        union |= mask
    return union


def to_image(image: Any, name: str = "image") -> np.ndarray:
    """Convert an in-memory image to 8-bit RGB.

    Parameters
    ----------
    image : PIL image, ndarray or Tensor
        Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); tensors (H, W), (1, H, W), (3, H, W) or (4, H, W). The
        fourth channel, alpha, is dropped. Samples are uint8, uint16 (scaled by 65535) or float in [0, 1].
    name : str
        What errors call the image.

    Returns
    -------
    ndarray (H, W, 3), uint8

    Raises
    ------
    InputError
        If it is none of these.
    """
    if isinstance(image, Image.Image):
        return _to_rgb(_upright(image, name), name)
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
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or array.size == 0:
        raise InputError(f"{name} has shape {tuple(image.shape)}: expected {expected}")
    pixels = _to_uint8(np.atleast_3d(array)[:, :, :3], name)
    return np.array(np.broadcast_to(pixels, (*array.shape[:2], 3)))


def _to_uint8(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return _scale(array, _GRAY_LEVELS_16_BIT)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{name} has samples of type {array.dtype}: expected uint8, uint16 or float in [0, 1]")
    low, high = float(array.min()), float(array.max())
    # Interpolation in floating point may overshoot a little; half a gray level rounds back into the range.
    if not (low >= -0.5 / 255 and high <= 1 + 0.5 / 255):
        raise InputError(
            f"{name} has values from {low:.4g} to {high:.4g}: floating-point images must be in [0, 1] and not "
            "normalized (the backbone does that)"
        )
    return _scale(array.clip(0, 1), 1.0)


def _scale(array: np.ndarray, white: float) -> np.ndarray:
    return np.rint(array.astype(np.float64) * (255 / white)).astype(np.uint8)


def _decode(path: Path) -> Image.Image:
    return _upright(_open(path), str(path))


def _open(path: Path) -> Image.Image:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"image {path} does not exist") from None
    except OSError as error:
        raise InputError(f"image {path} cannot be read: {error.strerror}") from None
    try:
        image = _header(io.BytesIO(content))
    except UnidentifiedImageError:
        problem = "is not an image" if content else "is an empty file"
        raise InputError(f"{path} {problem}: expected png, jpg, bmp, tif or webp") from None
    except Exception as error:  # decoders raise whatever a broken header leads them to
        raise _broken(str(path), error) from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path} has {width * height:,} pixels: at most {MAX_PIXELS:,} are read; cut the image into tiles"
        )
    return image


def _header(file: IO[bytes]) -> Image.Image:
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Decode the samples and apply the EXIF orientation."""
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:  # as above, and truncated files
        raise _broken(name, error) from None


def _broken(name: str, error: Exception) -> InputError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return InputError(f"{name} is broken and cannot be decoded ({reason}): replace or remove it")


def _is_deep(image: Image.Image) -> bool:
    """Whether samples have more than 8 bits: Pillow's ``convert`` would clip these."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    if not _is_deep(image):
        image.info.pop("transparency", None)  # alpha is dropped, and Pillow would warn of a palette's
        try:
            return np.array(image.convert("RGB"))
        except ValueError:
            raise InputError(f"{name} has colors of mode {image.mode}: expected gray, RGB, palette or CMYK") from None
    samples = np.asarray(image)
    if image.mode == "F":
        return to_image(samples, name)
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > _GRAY_LEVELS_16_BIT:
        raise InputError(
            f"{name} has values from {low} to {high}: expected at most 16 bits, 0 to {_GRAY_LEVELS_16_BIT}"
        )
    return to_image(samples.astype(np.uint16), name)


def size_text(size: Sequence[int]) -> str:
    """Height and width as messages give them: ``256x320``."""
    return f"{size[0]}x{size[1]}"
