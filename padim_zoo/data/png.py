"""The chunks of a PNG file that Pillow does not tell of, or stumbles over."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_LAST = b"IEND"
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
