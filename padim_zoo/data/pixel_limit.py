"""The largest image that is read: a small file may unpack to more than the memory of the machine.

It holds for the process, as Pillow's own limit does. That one is far below what line-scan cameras give.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from padim_zoo.core.errors import InputError

MAX_PIXELS = 100_000_000
"""Pixels of the largest image that is read where nobody says otherwise: 300 MB as RGB."""

VARIABLE = "PADIM_ZOO_MAX_PIXELS"

_THINNEST, _LONG = 16, 2**20
"""Each line of pixels takes memory of its own, however thin it is; sides up to a million take little."""

_BYTES_PER_PIXEL = 8
"""Of the largest samples, RGBA of 16 bits, without compression."""
_BYTES_BESIDE = 2**26
"""Room for a preview, a color profile and texts."""

_asked: list[int] = []


@contextmanager
def pixels_limited(pixels: int | None) -> Iterator[None]:
    """Within it images may have so many pixels; None leaves the limit as it is."""
    if pixels is None:
        yield
        return
    _asked.append(pixels)
    try:
        yield
    finally:
        _asked.pop()


def resolve_max_pixels(asked: int | None) -> int:
    """``asked``, or what :func:`max_pixels` says."""
    return max_pixels() if asked is None else asked


def max_pixels() -> int:
    """The most pixels of an image: by :func:`pixels_limited`, else ``PADIM_ZOO_MAX_PIXELS``, else 100 million.

    Raises
    ------
    InputError
        If the variable is no number.
    """
    if _asked:
        return _asked[-1]
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return MAX_PIXELS
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 18 and int(text)):
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise InputError(f"the environment variable {VARIABLE} is {shown!r}: expected a number of pixels, 1 or more")
    return int(text)


def refuse_many_pixels(name: object, size: tuple[int, int]) -> None:
    """Refuse an image by its width and height.

    Raises
    ------
    InputError
        If it has more pixels than may be, or is so thin that its lines take more memory than their pixels.
    """
    pixels, most = size[0] * size[1], max_pixels()
    if pixels > most:
        raise InputError(
            f"{name} has {pixels:,} pixels: at most {most:,} are read; cut the image into tiles, or allow more with "
            f"--max-pixels or {VARIABLE}"
        )
    longest = max(_LONG, most // _THINNEST)
    if max(size) > longest:
        raise InputError(
            f"{name} has {size[0]:,} by {size[1]:,} pixels: a side has at most {longest:,}; cut the image into tiles, "
            f"or allow more with --max-pixels or {VARIABLE}"
        )


def refuse_many_bytes(path: Path, found: int, size: tuple[int, int] | None) -> None:
    """Refuse a file that is larger than its pixels can be, before it is read.

    Parameters
    ----------
    path : Path
    found : int
        Bytes of the file.
    size : (int, int) or None
        Width and height of its picture; None where the header does not say it, or there may be further pictures.

    Raises
    ------
    InputError
        If it is too large.
    """
    pixels = max_pixels() if size is None else size[0] * size[1]
    most = _BYTES_PER_PIXEL * pixels + _BYTES_BESIDE
    if found > most:
        raise InputError(f"{path} has {found:,} bytes: expected at most {most:,}; save the image anew")
