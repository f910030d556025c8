"""What is read from a file once, while it stays as it is: the hash of its bytes, say."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_BLOCK = 2**20
_SETTLED_SECONDS = 2.0

Value = TypeVar("Value")
Version = tuple[Path, int, int, int, int]


def file_version(path: Path) -> Version:
    """The path, and what changes whenever the file does.

    Raises
    ------
    OSError
        If there is no such file.
    """
    status = path.stat()
    # The time of the last change of the status cannot be set, other than that of the content, which tools restore.
    return path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_still(path: Path, version: Version | None) -> bool:
    """Whether a file is there and as it was: else what was made of it meanwhile may be that of another content."""
    try:
        return file_version(path) == version
    except OSError:
        return False


def once_per_version(read: Callable[[Path], Value]) -> Callable[[Path], Value]:
    """What is read from a file, read once per process as long as the file stays as it is.

    A file that was changed a moment ago is read every time: the clock of the file system might not tell its next change
    from this one.
    """

    @functools.lru_cache(maxsize=1_000_000)
    def read_version(path: Path, *version: int) -> Value:
        return read(path)

    @functools.wraps(read)
    def remembered(path: Path) -> Value:
        version = file_version(path)
        if time.time() - max(version[-2:]) / 1e9 < _SETTLED_SECONDS:
            return read(path)
        return read_version(*version)

    return remembered


@once_per_version
def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
