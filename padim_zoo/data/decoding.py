"""Opened image files to the samples that they hold: decoded and upright, with nothing scaled yet."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from padim_zoo.core.errors import InputError
from padim_zoo.data import png
from padim_zoo.data.opening import ANIMATED, broken, header_of, open_image, open_regular
from padim_zoo.data.orientation import ORIENTATION_TAG, UPRIGHT, Geometry, turn, valid_orientation
from padim_zoo.data.pixel_limit import refuse_many_pixels

_BITS_PER_SAMPLE, _PHOTOMETRIC, _LARGEST_SAMPLE = 258, 262, 281
_WHITE_IS_ZERO = 0
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_WEBP_HEADER = 64
_CLEAR, _OPAQUE = np.uint16(0), np.uint16(65535)
_BAND = 2**20


@dataclass(frozen=True)
class Picture:
    """One picture of a file, upright.

    Attributes
    ----------
    samples : ndarray (H, W) or (H, W, 3)
        uint8, uint16, int32 or float32, as the file has them.
    alpha : ndarray (H, W), optional
        Opacity, in the type of the samples; None where the file has none, or the same everywhere.
    palette : ndarray (H, W), uint8, optional
        The indices of a palette, whose colors are the samples.
    white_is_zero : bool
        Whether samples count from white; 8-bit ones never do here.
    bits : int, optional
        How many bits of a deep sample are used, by the file's own word.
    mode : str
        Pillow's name for how the file stores its samples.
    """

    samples: np.ndarray
    alpha: np.ndarray | None = None
    palette: np.ndarray | None = None
    white_is_zero: bool = False
    bits: int | None = None
    mode: str = ""

    @property
    def deep(self) -> bool:
        """Whether samples are integers of more than 8 bits."""
        return self.samples.dtype in (np.uint16, np.int32)


def geometry(path: Path) -> Geometry:
    """Stored size and orientation of a file, from no more of it than its header where that is enough."""
    with suppress(Exception), open_regular(path) as file:  # whatever is wrong is said by open_image
        image = header_of(file)
        refuse_many_pixels(path, image.size)
        if image.format != "PNG":
            return _geometry(image)
        if not png.may_have_exif(file):
            return Geometry((image.height, image.width))
    image = open_image(path)
    with _decoding(str(path)):
        return _geometry(image)


def _geometry(image: Image.Image) -> Geometry:
    tags = getattr(image, "tag_v2", None)
    if tags is not None:  # Pillow gives the size of a TIFF as shown, and forgets its orientation when it is decoded
        return Geometry((int(tags[257]), int(tags[256])), valid_orientation(tags.get(ORIENTATION_TAG)))
    width, height = image.size
    if not _may_be_turned(image):
        return Geometry((height, width))
    return Geometry((height, width), _orientation(image))


def _may_be_turned(image: Image.Image) -> bool:
    """Whether it takes a look for an orientation, for which Pillow decodes a PNG to its end."""
    return image.format != "PNG" or png.may_have_exif(io.BytesIO(_content(image)))


def _orientation(image: Image.Image) -> int:
    return valid_orientation(image.getexif().get(ORIENTATION_TAG))


def picture_of(image: Image.Image, name: str) -> Picture:
    """Decode the page that an image is at.

    Raises
    ------
    InputError
        If it is broken or too large, or stores 16 bits in a way that only the high byte of could be had.
    """
    with _decoding(name):
        return _picture_of(image, name)


def _picture_of(image: Image.Image, name: str) -> Picture:
    if _tiles(image):  # a later page may be larger than the first
        refuse_many_pixels(name, image.size)
    mode, bits = image.mode, _stated_bits(image)
    white_is_zero = image.mode.startswith("I") and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO
    deep = _deep_color(image, name)
    orientation = UPRIGHT
    if deep is None or _may_be_turned(image):
        image.load()
        orientation = _orientation(image)
    if deep is not None:
        samples, alpha = deep
        palette = None
    else:
        samples, alpha, palette = _samples(image, name)
    alpha = _varying(alpha)
    if orientation != UPRIGHT:
        samples = turn(samples, orientation)
        alpha, palette = (None if part is None else turn(part, orientation) for part in (alpha, palette))
    return Picture(samples, alpha, palette, white_is_zero, bits, mode)


def pages_of(image: Image.Image) -> int:
    """Pages or frames of a file; 1 of a photo whose further pictures are previews."""
    if image.format == "MPO":
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # of a broken list of pages: the first may be sound, and else who decodes it says so
        return 1


def is_animated(image: Image.Image) -> bool:
    """Whether the pages of a file are frames of an animation."""
    return image.format in ANIMATED


def is_lossy(image: Image.Image) -> bool:
    """Whether samples are not quite those that were saved."""
    if image.format == "WEBP":
        return b"VP8L" not in _content(image)[:_WEBP_HEADER]
    return image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg"


def _samples(image: Image.Image, name: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Samples, alpha and palette indices of what Pillow keeps in full."""
    palette = np.asarray(image) if image.mode == "P" else None
    if image.mode == "F" or is_deep_mode(image.mode):
        samples = np.asarray(image)
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        key = image.info.get("transparency")
        alpha = None if key is None else np.where(samples == key, _CLEAR, _OPAQUE)
        return samples, alpha, None
    try:
        if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
            rgba = _rows_of(_converted(_converted(image, "LA") if image.mode == "La" else image, "RGBA"), np.uint8)
            return rgba[:, :, :3], rgba[:, :, 3], palette
        if image.mode in ("1", "L"):
            return np.array(image.convert("L")), None, palette
        samples = _rows_of(_converted(image, "RGB"), np.uint8)
    except ValueError:
        raise InputError(f"{name} has colors of mode {image.mode}: expected gray, RGB, palette or CMYK") from None
    return samples, None, palette


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """An image in a mode, not copied if it is in it; transparency by a key becomes alpha."""
    return image if image.mode == mode and "transparency" not in image.info else image.convert(mode)


def is_deep_mode(mode: str) -> bool:
    """Whether samples of a mode of Pillow have more than 8 bits: its ``convert`` would clip these."""
    return mode == "I" or mode.startswith("I;")


def may_be_deep(image: Image.Image) -> bool:
    """Whether a file may have more than 8 bits, by its header."""
    several = image.format in ("PNG", "TIFF") and any(";16" in str(tile) for tile in _tiles(image))
    return is_deep_mode(image.mode) or several


def _deep_color(image: Image.Image, name: str) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Samples (H, W, 3) and alpha of an image with 16 bits in each of several channels; None of any other.

    Pillow keeps the high byte alone. It is made to decode the low one by saying that the bytes are the other way round.
    """
    rawmodes = {tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in _tiles(image) if tile[3]}
    rawmode = rawmodes.pop() if len(rawmodes) == 1 else ""
    per_sample = _tag(image, _BITS_PER_SAMPLE) or (16 if ";16" in str(rawmode) else 8)
    several = not is_deep_mode(image.mode) and image.mode != "F"
    if not several or not _tiles(image) or max(per_sample if isinstance(per_sample, tuple) else (per_sample,)) <= 8:
        return None
    if rawmode == "LA;16B":
        pairs = np.asarray(_decoded(image, "RGBA"))
        gray, alpha = (_joined(pairs[:, :, channel], pairs[:, :, channel + 1]) for channel in (0, 2))
        return np.broadcast_to(gray[:, :, None], (*gray.shape, 3)), alpha
    kind, _, order = str(rawmode).partition(";16")
    if kind not in ("RGB", "RGBX", "RGBA") or order not in _OTHER_BYTE:
        raise InputError(
            f"{name} stores {image.mode} with more than 8 bits of which only the high byte can be read: "
            "save it as a 16-bit gray or RGB PNG"
        )
    samples = _rows_of(_decoded(image, str(rawmode)), np.uint16)
    low = _decoded(image, f"{kind};16{_OTHER_BYTE[order]}")
    for rows, band in _bands_of(low):
        samples[rows] = samples[rows] << 8 | band
    key = image.info.get("transparency")
    if samples.shape[2] == 4:
        return samples[:, :, :3], samples[:, :, 3]
    if isinstance(key, tuple):
        return samples, np.where((samples == np.array(key)).all(2), _CLEAR, _OPAQUE)
    return samples, None


def _joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Samples of 16 bits from their bytes."""
    return np.asarray(high.astype(np.uint16) << 8 | low)


def _rows_of(image: Image.Image, dtype: type) -> np.ndarray:
    """The samples of a decoded image as an array: NumPy by itself would copy all of them twice."""
    width, height = image.size
    samples: np.ndarray = np.empty((height, width, len(image.getbands())), dtype)
    for rows, band in _bands_of(image):
        samples[rows] = band
    return samples


def _bands_of(image: Image.Image) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows of an image at a time, and their samples."""
    width, height = image.size
    for top in range(0, height, step := max(1, _BAND // width)):
        bottom = min(height, top + step)
        yield slice(top, bottom), np.asarray(image.crop((0, top, width, bottom)))


def _decoded(image: Image.Image, rawmode: str) -> Image.Image:
    """A file as Pillow unpacks it by another raw mode, as it would show it."""
    again = header_of(io.BytesIO(_content(image)))
    if image.tell():
        again.seek(image.tell())
    again.tile = [_tile_with(tile, rawmode) for tile in _tiles(again)]  # type: ignore[attr-defined]
    again.load()
    return again


def _tiles(image: Image.Image) -> list[Any]:
    """What is still to be decoded of an image, and how."""
    return getattr(image, "tile", [])


def _tile_with(tile: Any, rawmode: str) -> Any:
    codec, extents, offset, arguments = tile
    changed = (codec, extents, offset, rawmode if isinstance(arguments, str) else (rawmode, *arguments[1:]))
    return tile._make(changed) if hasattr(tile, "_make") else changed


def _content(image: Image.Image) -> bytes:
    """The bytes of the file that an image is decoded from; none of one in memory."""
    file: Any = getattr(image, "fp", None)
    if file is None or isinstance(file, io.BytesIO):
        return b"" if file is None else file.getvalue()
    position = file.tell()
    file.seek(0)
    content: bytes = file.read()
    file.seek(position)
    return content


def _varying(alpha: np.ndarray | None) -> np.ndarray | None:
    """Alpha that differs between pixels; a constant one says nothing."""
    return None if alpha is None or (alpha == alpha.flat[0]).all() else alpha


def _stated_bits(image: Image.Image) -> int | None:
    """How many bits of deep samples are used, by the file's own word."""
    if image.format == "PNG":
        return png.significant_bits(_content(image))
    largest, per_sample = _tag(image, _LARGEST_SAMPLE), _tag(image, _BITS_PER_SAMPLE)
    if largest is not None:
        value = max(largest) if isinstance(largest, tuple) else largest
        return int(value).bit_length() or None
    bits = max(per_sample) if isinstance(per_sample, tuple) else per_sample
    return bits if bits is not None and 8 < bits < 16 else None


def _tag(image: Image.Image, number: int) -> Any:
    """The value of a TIFF tag, or None."""
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(number)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Within it any error is one of a broken file: decoders raise whatever broken and truncated files lead them to."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise broken(name, error) from None


def turned_to(image: Image.Image, page: int, name: str) -> Image.Image:
    """An image at another of its pages.

    Raises
    ------
    InputError
        If that is broken.
    """
    with _decoding(name):
        image.seek(page)
    return image
