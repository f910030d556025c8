"""Features of image files on disk, so that a second benchmark of the same images need not compute them again.

One file per image, found by the SHA-256 of what decides its features: the bytes of the image file, and a key that
stands for all else (backbone and its weights, layers, transform, precision, device). A changed image or option is
another entry, so that nothing is ever out of date.

Maps are kept exactly. Half precision would halve the space, but on real images float16 moved scores by up to 1.4e-4 of
their value, and features that are read must give the scores of features that are computed to 1e-4. Maps of a backbone
in bfloat16 need no more than 16 bits, and take no more.

Any number of processes may share the folder. An entry appears under its name when it is complete and may vanish at any
moment; one with a wrong checksum counts as absent. Nothing waits for the disk: what a power failure spoils is computed
again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from padim_zoo.atomic import write_whole
from padim_zoo.data.cache import KINDS, cache_folder, cache_limit
from padim_zoo.errors import InputError

_FORMAT = 1
_STALE_SECONDS = 3600.0
_TRIMS_PER_LIMIT = 16


@dataclass(frozen=True)
class Entry:
    """The features of one image.

    Attributes
    ----------
    maps : tuple of Tensor (H_l, W_l, C_l), or (V, H_l, W_l, C_l) of V views
        One per layer, float32 or, where that holds them exactly, bfloat16. Read ones lie in the mapped file.
    image_size : tuple of int
        Height and width in pixels after the transform.
    seconds : float
        Time that an image took to compute: decoding, transform and forward pass.
    conditions : str
        What that time depends on besides: processor, threads, batch size, versions.
    """

    maps: tuple[Tensor, ...]
    image_size: tuple[int, int]
    seconds: float
    conditions: str


class FeatureCache:
    """Features by the content of image files, least recently used ones being removed beyond a size.

    A folder that cannot be written to is told once, by a warning, and then only read from.

    Parameters
    ----------
    folder : Path, optional
        ``features`` in the cache folder by default.
    limit : int, optional
        Bytes that the entries may take; :func:`~padim_zoo.data.cache.cache_limit` by default. Whatever the limit, they
        take no more than half of what the disk has left for them.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.folder = cache_folder() / "features" if folder is None else folder
        self.limit = cache_limit() if limit is None else limit
        self._writable = True
        self._written = 0

    def key(self, path: Path, cache_key: str) -> str:
        """The name of an entry, 64 hex digits.

        Parameters
        ----------
        path : Path
            The image file.
        cache_key : str
            What else decides its features.

        Raises
        ------
        OSError
            If the file cannot be read.
        """
        image = hashlib.sha256(path.read_bytes()).hexdigest()
        return hashlib.sha256(f"{_FORMAT}\0{image}\0{cache_key}".encode()).hexdigest()

    def read(self, key: str) -> Entry | None:
        """The entry, which is now the most recently used one; None if there is none, or it is damaged."""
        path = self._path(key)
        try:
            with safe_open(path, "pt") as file:
                checksum, about = file.metadata()["checksum"], file.metadata()["about"]
                maps = tuple(file.get_tensor(str(layer)) for layer in range(len(file.keys())))
            if checksum != _checksum(about, maps):
                return None
            known = json.loads(about)
        except (OSError, RuntimeError, SafetensorError, KeyError, TypeError, ValueError):
            return None  # a RuntimeError is torch's, of a file that vanished after its header was read
        with suppress(OSError):  # the folder may be one that can only be read
            os.utime(path)
        height, width = known["image_size"]
        return Entry(maps, (height, width), known["seconds"], known["conditions"])

    def write(self, key: str, entry: Entry) -> None:
        """Keep an entry; where that is impossible, say so once and go on without."""
        if not self._writable:
            return
        maps = tuple(_narrowed(layer.contiguous()) for layer in entry.maps)
        about = json.dumps(
            {"image_size": entry.image_size, "seconds": entry.seconds, "conditions": entry.conditions}, sort_keys=True
        )
        tensors = {str(number): layer for number, layer in enumerate(maps)}
        metadata = {"about": about, "checksum": _checksum(about, maps)}
        try:
            write_whole(self._path(key), lambda path: save_file(tensors, path, metadata), durable=False)
        except (InputError, SafetensorError) as error:
            self._writable = False
            warnings.warn(f"features are not kept: {' '.join(str(error).split())}", stacklevel=2)
        self._written += sum(layer.nbytes for layer in maps)
        if self._written * _TRIMS_PER_LIMIT > self.limit:
            self.trim()

    def trim(self) -> None:
        """Remove the least recently used entries beyond the limit, and what killed processes left half written."""
        self._written = 0
        entries = sorted(self._entries())
        now = time.time()
        for entry in entries:
            if entry.path.suffix == ".tmp" and now - entry.used > _STALE_SECONDS:
                _remove(entry.path)
        kept = [entry for entry in entries if entry.path.suffix != ".tmp"]
        held = sum(entry.bytes for entry in kept)
        with suppress(OSError):
            budget = min(self.limit, (held + shutil.disk_usage(self.folder).free) // 2)
            for entry in kept:
                if held <= budget:
                    break
                _remove(entry.path)
                held -= entry.bytes

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _entries(self) -> Iterator[_File]:
        with suppress(OSError), os.scandir(self.folder) as files:
            for file in files:
                if KINDS["features"].fullmatch(file.name):
                    with suppress(OSError):  # gone meanwhile
                        status = file.stat(follow_symlinks=False)
                        yield _File(status.st_mtime, Path(file.path), status.st_size)


class _File(NamedTuple):
    """A file of the cache; sorts by its last use."""

    used: float
    path: Path
    bytes: int


def _remove(path: Path) -> None:
    with suppress(OSError):  # gone meanwhile, or open in another process where that forbids it
        path.unlink(missing_ok=True)


def _narrowed(layer: Tensor) -> Tensor:
    """The map in 16 bits if nothing is lost by it."""
    narrow = layer.bfloat16()
    return narrow if torch.equal(narrow.float(), layer) else layer


def _checksum(about: str, maps: Sequence[Tensor]) -> str:
    checksum = zlib.crc32(about.encode())
    for layer in maps:
        checksum = zlib.crc32(f"{layer.dtype} {tuple(layer.shape)}".encode(), checksum)
        array: Any = layer.flatten().view(torch.uint8).numpy()
        checksum = zlib.crc32(array.data, checksum)
    return f"{checksum:08x}"
