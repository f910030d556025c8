"""Image files as far as their headers: opened, or refused, before anything is decoded."""

from __future__ import annotations

import errno
import functools
import io
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

import PIL
from PIL import Image, UnidentifiedImageError, features

from padim_zoo.core.errors import InputError
from padim_zoo.data import png
from padim_zoo.data.content import once_per_version
from padim_zoo.data.pixel_limit import refuse_many_bytes, refuse_many_pixels

FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What is read, by Pillow's names; its JPEG has MPO too. The content of a file decides, never its suffix."""
REPLACE_IT = ": replace or remove it"
"""What to do about a broken image."""

ANIMATED = ("GIF", "PNG", "WEBP")
"""Formats whose pages are frames."""

_EXPECTED = "png, jpg, jp2, bmp, gif, tif, webp, pgm or ppm"
_LARGE = 2**24
_OF_PAGES = (*ANIMATED, "TIFF", "MPO")

# Pillow's limit is a global that Image.open reads; it is lifted only while a header is parsed.
_pillow_limit = threading.Lock()
_large_images = threading.RLock()


def open_image(path: Path) -> Image.Image:
    """Open a file without decoding its pixels.

    Raises
    ------
    InputError
        If it is missing, no image, or too large.
    """
    try:
        with open_regular(path) as file:
            _refuse_by_header(path, file)
            content = file.read()
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"image {path} does not exist") from None
    except (OSError, ValueError) as error:  # a ValueError of a name that no file can have
        raise InputError(f"image {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        image = header_of(io.BytesIO(png.without_text(content)))
    except Exception as error:  # decoders raise whatever a broken header leads them to
        raise broken(str(path), error) from None
    refuse_many_pixels(path, image.size)
    return image


def open_regular(path: Path) -> IO[bytes]:
    """A file that was opened for reading, without waiting for a writer.

    Raises
    ------
    OSError
        If it is a device, a pipe or a folder: reading these waits, or never ends.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse_by_header(path: Path, file: IO[bytes]) -> None:
    """Refuse a file of another format, or with too many pixels or bytes, before more of it is read than its header."""
    n_bytes = os.fstat(file.fileno()).st_size
    size = None
    try:
        image = header_of(file)
        refuse_many_pixels(path, image.size)
        size = None if image.format in _OF_PAGES else image.size
    except InputError:
        raise
    except UnidentifiedImageError:
        problem = "is not an image" if n_bytes else "is an empty file"
        raise InputError(f"{path} {problem}: expected {_EXPECTED}") from None
    except Exception:  # large texts before the pixels, say: who decodes the file leaves them out, or says so
        pass
    refuse_many_bytes(path, n_bytes, size)
    file.seek(0)


@once_per_version
def stored_size(path: Path) -> tuple[int, int] | None:
    """Height and width before the EXIF orientation, from no more of a file than its header; None if that is broken.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with open_regular(path) as file:
        try:
            width, height = header_of(file).size
        except Exception:  # as of open_image, but it is for whoever decodes the file to say so
            return None
    return height, width


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Within it no other thread decodes a large file: each takes a gigabyte for a moment."""
    try:
        size = stored_size(path)
    except (OSError, ValueError):  # which is told by the attempt to decode it
        size = None
    with nullcontext() if size is None or size[0] * size[1] < _LARGE else _large_images:
        yield


@functools.cache
def decoder() -> str:
    """What decides pixels besides the file: Pillow, and the libraries that it decodes with."""
    libraries = [f"{name} {features.version(name)}" for name in ("jpg", "libtiff", "webp")]
    return "; ".join([f"Pillow {PIL.__version__}", *libraries])


def header_of(file: IO[bytes]) -> Image.Image:
    """An image of which no more is read than its header."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def broken(name: str, error: Exception) -> InputError:
    """What is said of a file that a decoder raised an error at."""
    if isinstance(error, MemoryError):
        return InputError(f"{name} does not fit into memory: cut the image into tiles, or make it smaller")
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return InputError(f"{name} is broken and cannot be decoded ({reason}){REPLACE_IT}")
