"""The digest of an exported file, which lies in its metadata and covers every byte but its own.

So a file that changed on its way is refused instead of giving other scores. It is no signature: whoever can write the
file can write the digest.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from padim_zoo.export.metadata import KEY, UNSEALED

Content: TypeAlias = bytes | bytearray | memoryview

_SEAL = re.compile(rb"sha256:[0-9a-f]{64}")


def seal(content: bytes, others: Iterable[Content] = ()) -> bytes:
    """Put the digest of a file, and of ``others`` beside it, in the place that :data:`UNSEALED` holds."""
    start = content.rindex(UNSEALED.encode())
    return b"".join([content[:start], _digest(content, start, others), content[start + len(UNSEALED) :]])


def is_sealed(content: bytes, others: Iterable[Content] = ()) -> bool:
    """Whether the last digest in a file is that of the file, and of ``others`` beside it."""
    start = content.rfind(b"sha256:")
    found = _SEAL.match(content, max(start, 0))
    return found is not None and found[0] == _digest(content, start, others)


def _digest(content: bytes, start: int, others: Iterable[Content]) -> bytes:
    whole, view = hashlib.sha256(), memoryview(content)
    for part in (view[:start], UNSEALED.encode(), view[start + len(UNSEALED) :], *others):
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return b"sha256:" + whole.hexdigest().encode()


def records_of(archive: zipfile.ZipFile) -> tuple[bytes, Iterator[Content]]:
    """The metadata of a torch archive, and names and contents of all other records, in an order of their own."""
    records = {name.partition("/")[2]: name for name in archive.namelist()}
    own = next((name for name in records if name.endswith(f"/{KEY}")), None)
    others = (part for name in sorted(records) if name != own for part in (name.encode(), archive.read(records[name])))
    return archive.read(records[own]) if own else b"", others
