"""What is in a file, by its hash."""

from __future__ import annotations

import functools
import hashlib
import time
from pathlib import Path

_BLOCK = 2**20
_SETTLED_SECONDS = 2.0


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; read once per process as long as the file stays as it is.

    A file that was changed a moment ago is read every time: the clock of the file system might not tell its next change
    from this one.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    status = path.stat()
    if time.time() - max(status.st_mtime, status.st_ctime) < _SETTLED_SECONDS:
        return _hash(path)
    # The time of the last change of the status cannot be set, other than that of the content, which tools restore.
    return _hash_of_version(path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@functools.lru_cache(maxsize=1_000_000)
def _hash_of_version(path: Path, *version: int) -> str:
    return _hash(path)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
