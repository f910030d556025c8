"""Where files that can be made again are kept, how much they may take, and how to remove them."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from padim_zoo.core.atomic_write import discard
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import parse_bytes

DEFAULT_LIMIT = 10 * 10**9

_STALE_SECONDS = 3600.0

_ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors|\.[0-9a-f]{64}\..*\.tmp")

KINDS = {
    "features": _ENTRY,
    "fingerprints": _ENTRY,
    "images": _ENTRY,
    "networks": _ENTRY,
    "synthetic": re.compile(r"v[0-9]+-size[0-9]+-seed[0-9]+"),
}
"""What the cache folder holds: the subfolder of each kind, and how the entries in it are named."""

LIMITED = ("features", "fingerprints", "images", "networks")
"""The kinds that share one limit, and of which the entries that were not used for longest go first."""


def cache_folder() -> Path:
    """The folder for generated data; it may not exist yet.

    The environment variable ``PADIM_ZOO_CACHE`` names it. Without that it is where the system keeps caches, e.g.
    ``~/.cache/padim-zoo`` on Linux.

    Raises
    ------
    InputError
        If the variable names the home of nobody.
    """
    folder = os.environ.get("PADIM_ZOO_CACHE")
    if folder:
        try:
            return Path(folder).expanduser()
        except RuntimeError:
            raise InputError(f"PADIM_ZOO_CACHE is {folder!r}, which names no user's home: give a folder") from None
    from platformdirs import user_cache_path

    return user_cache_path("padim-zoo", appauthor=False)


def cache_limit() -> int:
    """Bytes that cached features, images and networks may take together, 10 GB by default.

    The environment variable ``PADIM_ZOO_CACHE_LIMIT`` sets them: ``500MB``, ``20 GB``, or ``0`` for no cache.

    Raises
    ------
    InputError
        If the variable is no size.
    """
    text = os.environ.get("PADIM_ZOO_CACHE_LIMIT", "")
    return parse_bytes("PADIM_ZOO_CACHE_LIMIT", text) if text.strip() else DEFAULT_LIMIT


def refuse_bad_variables() -> None:
    """Refuse what the environment variables of this module say, where that is nonsense.

    Raises
    ------
    InputError
        Naming the variable.
    """
    cache_folder()
    cache_limit()


class Usage(NamedTuple):
    """How many entries there are, and the bytes of their files."""

    entries: int
    bytes: int


def usage(kind: str) -> Usage:
    """What the entries of a kind take now."""
    sizes = [_size(entry) for entry in _entries(kind)]
    return Usage(len(sizes), sum(sizes))


def clear(kind: str) -> Usage:
    """Remove the entries of a kind and say what they took; nothing else in the folder is touched.

    Raises
    ------
    InputError
        If an entry is there still.
    """
    entries = 0
    freed = 0
    for entry in _entries(kind):
        size = _size(entry)
        try:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
        except FileNotFoundError:  # another process was quicker
            continue
        except OSError as error:
            raise InputError(f"cannot remove {entry}: {error.strerror or error}; remove it by hand") from None
        entries += 1
        freed += size
    return Usage(entries, freed)


def _entries(kind: str) -> Iterator[Path]:
    folder = cache_folder() / kind
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    paths = (folder / name for name in names if KINDS[kind].fullmatch(name))
    # A link leads to something that is not ours.
    return (path for path in paths if not path.is_symlink())


def _size(entry: Path) -> int:
    total = 0
    paths = (Path(folder, name) for folder, _, names in os.walk(entry) for name in names)
    for path in paths if entry.is_dir() else [entry]:
        with suppress(OSError):  # gone meanwhile, as a draft that was renamed
            total += path.stat().st_size if path.is_file() else 0
    return total


class _File(NamedTuple):
    """A file of the cache; sorts by its last use."""

    used: float
    path: Path
    bytes: int


def trim(root: Path, limit: int) -> None:
    """Remove what killed processes left half written, and the least recently used entries beyond a limit.

    They are those of all kinds that share one. Whatever it is, they take no more than half of what the disk has left
    for them.

    Parameters
    ----------
    root : Path
        The folder that holds that of each kind.
    limit : int
        Bytes.
    """
    files = sorted(_files(root))
    now = time.time()
    for file in files:
        if file.path.suffix == ".tmp" and now - file.used > _STALE_SECONDS:
            remove_entry(file.path)
    complete = [file for file in files if file.path.suffix != ".tmp"]
    held = sum(file.bytes for file in complete)
    with suppress(OSError):
        budget = min(limit, (held + shutil.disk_usage(root).free) // 2)
        for file in complete:
            if held <= budget:
                break
            remove_entry(file.path)
            held -= file.bytes


def _files(root: Path) -> Iterator[_File]:
    for kind in LIMITED:
        with suppress(OSError), os.scandir(root / kind) as files:
            for file in files:
                if KINDS[kind].fullmatch(file.name):
                    with suppress(OSError):  # gone meanwhile
                        status = file.stat(follow_symlinks=False)
                        yield _File(status.st_mtime, Path(file.path), status.st_size)


def remove_entry(path: Path) -> None:
    """Remove a file of the cache, unless it is gone, or open in another process where that forbids it."""
    with suppress(OSError):
        discard(path)
