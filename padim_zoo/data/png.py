"""PNG files: chunks that Pillow does not tell of, or stumbles over; and what Pillow writes slowly."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_LAST = b"IEND"
_FILTER_UP, _RGB = 2, 2
"""Numbers of the PNG specification: a row is the difference to the one above, a pixel has three colors."""
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_WITH_ORIENTATION = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
_LARGEST_TEXT = 2**19

HEAD = 25
"""Bytes of a PNG up to the one that says how many bits a sample has."""


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk, its length and checksum included; stops where the file is broken."""
    start = len(_SIGNATURE) if content.startswith(_SIGNATURE) else len(content)
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        end = start + 12 + length
        if end > len(content):
            return
        name = content[start + 4 : start + 8]
        yield name, start, end
        if name == _LAST:  # any bytes may follow, and none is a chunk
            return
        start = end


def never_deep(head: bytes) -> bool:
    """Whether the first bytes of a file say that no sample has more than 8 bits: a PNG that says so, or any JPEG."""
    if head.startswith(_SIGNATURE):
        return head[12:16] == b"IHDR" and len(head) == HEAD and head[-1] <= 8
    return head.startswith(_JPEG)


def without_text(content: bytes) -> bytes:
    """A file without what no pixel depends on, text and color profile: Pillow refuses a sound file with long ones.

    Text that may hold the orientation stays, unless it is long.
    """
    dropped = [
        (start, end)
        for name, start, end in _chunks(content)
        if name == b"iCCP"
        or (
            name in _TEXT
            and (end - start > _LARGEST_TEXT or not content[start + 8 : end].startswith(_WITH_ORIENTATION))
        )
    ]
    if not dropped:
        return content
    starts = [0, *(end for _, end in dropped)]
    ends = [*(start for start, _ in dropped), len(content)]
    return b"".join(content[start:end] for start, end in zip(starts, ends, strict=True))


def may_have_exif(file: IO[bytes]) -> bool:
    """Whether a chunk is there that can hold an orientation; of all others no more than the names are read."""
    position, end = file.tell(), file.seek(0, os.SEEK_END)
    start = len(_SIGNATURE)
    try:
        while start + 12 <= end:
            file.seek(start)
            length, name = struct.unpack(">I4s", file.read(8))
            start += 12 + length
            if start <= end and (name == b"eXIf" or name in _TEXT):
                return True
            if name == _LAST:
                break
        return False
    finally:
        file.seek(position)


def significant_bits(content: bytes) -> int | None:
    """The most bits of a channel that are significant, by the chunk ``sBIT``; None where it says no more than 8."""
    for name, start, end in _chunks(content):
        if name == b"sBIT":
            bits = max(content[start + 8 : end - 4], default=0)
            return bits if 8 < bits < 16 else None
        if name == b"IDAT":
            return None
    return None


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of colors (H, W, 3), in a quarter of the time that Pillow takes, and decoded in half.

    Pillow tries five filters on each row, and zlib looks for repetitions, which camera noise has none of. Here each row
    is the difference to the one above, and only frequent bytes get short codes.
    """
    height, width, _ = pixels.shape
    lines = pixels.reshape(height, 3 * width)
    rows = np.full((height, 1 + 3 * width), _FILTER_UP, dtype=np.uint8)
    rows[:, 1:] = lines
    rows[1:, 1:] -= lines[:-1]
    packer = zlib.compressobj(1, strategy=zlib.Z_HUFFMAN_ONLY)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0),
        b"IDAT": packer.compress(rows.data) + packer.flush(),
        _LAST: b"",
    }
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    return _SIGNATURE + b"".join(chunks)
