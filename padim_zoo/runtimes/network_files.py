"""Converted networks and measured choices in the cache folder, each under the hash of all that decides it.

An entry is a safetensors file: the converted files as bytes, and a JSON document beside them. It appears whole. A
digest covers all of it; damage is a miss.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from padim_zoo.core.atomic_write import write_whole
from padim_zoo.core.cache_folder import cache_folder, cache_limit, trim
from padim_zoo.core.errors import WriteError
from padim_zoo.core.fields import FieldError, Fields, read_json

KIND = "networks"
_VERSION = 2
"""Raised when entries change in what they hold or mean."""


class Entry(NamedTuple):
    """What is kept: bytes of files, and a document."""

    files: tuple[bytes, ...]
    about: Mapping[str, Any]


def read_entry(decisive: str) -> Entry | None:
    """What was written under the same words; None if there is nothing, or it is damaged."""
    path = _path(decisive)
    try:
        if path.is_symlink() or not path.is_file():
            return None
        with safe_open(path, "np") as file:
            about, digest = file.metadata()["about"], file.metadata()["digest"]
            files = tuple(file.get_tensor(str(number)).tobytes() for number in range(len(file.keys())))
        if digest != _digest(decisive, about, files):
            return None
        document = Fields(read_json(about)).values
    except (OSError, RuntimeError, SafetensorError, KeyError, TypeError, ValueError, FieldError):
        return None
    with suppress(OSError):  # the folder may be one that can only be read
        os.utime(path)
    return Entry(files, document)


def write_entry(decisive: str, entry: Entry) -> None:
    """Keep an entry, unless the limit of the cache is 0 or the folder cannot be written to; trim the cache then."""
    limit = cache_limit()
    if limit == 0:
        return
    about = json.dumps(entry.about, sort_keys=True)
    arrays = {str(number): np.frombuffer(content, np.uint8) for number, content in enumerate(entry.files)}
    metadata = {"about": about, "digest": _digest(decisive, about, entry.files)}
    with suppress(WriteError):
        write_whole(_path(decisive), lambda path: save_file(arrays, path, metadata), durable=False)
        trim(cache_folder(), limit)


def _path(decisive: str) -> Path:
    return cache_folder() / KIND / f"{hashlib.sha256(f'{_VERSION} {decisive}'.encode()).hexdigest()}.safetensors"


def _digest(decisive: str, about: str, files: Sequence[bytes]) -> str:
    whole = hashlib.sha256()
    for part in (decisive.encode(), about.encode(), *files):
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.hexdigest()
