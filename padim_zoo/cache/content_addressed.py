"""What is computed of image files, kept on disk by content: the folder of entries that all such caches are.

An entry is a safetensors file under a name that is the hash of everything that decides it, the bytes of the image file
first of all, so that nothing is ever out of date.

Any number of processes may share the folder. An entry appears under its name when it is complete and may vanish at any
moment; one with a wrong checksum counts as absent. Nothing waits for the disk: what a power failure spoils is computed
again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from padim_zoo.core.atomic_write import write_bytes_whole, write_whole
from padim_zoo.core.cache_folder import cache_folder, cache_limit, remove_entry, trim
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import Fields, read_json
from padim_zoo.data.content import content_hash
from padim_zoo.data.opening import stored_size
from padim_zoo.data.pixel_limit import refuse_many_pixels

_OF_CONTENT = 32
"""Digits of an entry's name that are the beginning of the hash of the file's content."""
_TRIMS_PER_LIMIT = 16
_COPIED = 2**22
"""Bytes of the largest entry that is copied in memory to be written faster. Those of large images take gigabytes."""

_warned_folders: set[Path] = set()
"""Folders of which this process has told that they cannot be written to, or can be by others."""


class ContentCache:
    """Entries of one kind, least recently used ones being removed beyond a size.

    A folder that cannot be written to is told once, by a warning, and then only read from.

    Parameters
    ----------
    root : Path, optional
        The folder that holds that of each kind; the cache folder by default.
    limit : int, optional
        Bytes that the entries of all kinds may take together; by default
        :func:`~padim_zoo.core.cache_folder.cache_limit`.
        Whatever the limit, they take no more than half of what the disk has left for them.
    writes : bool
        Whether anything may be added.

    Attributes
    ----------
    folder : Path
        That of this kind; it may not exist yet.
    writes : bool
        As the parameter; False from when it turned out that nothing can be.
    """

    kind: ClassVar[str]
    """A subfolder of the cache folder, one of :data:`~padim_zoo.core.cache_folder.LIMITED`."""
    version: ClassVar[int]
    """Raised when entries of this kind change in what they hold or mean."""

    def __init__(self, root: Path | None = None, limit: int | None = None, *, writes: bool = True) -> None:
        self.root = cache_folder() if root is None else root
        self.folder = self.root / self.kind
        self.limit = cache_limit() if limit is None else limit
        self.writes = writes
        self._written = 0
        _warn_of_others(self.root)

    def key(self, path: Path, decisive: str) -> str:
        """The name of an entry, 64 hex digits: half of them tell the file, so that all its entries can be found.

        Parameters
        ----------
        path : Path
            The image file.
        decisive : str
            What else decides the entry.

        Raises
        ------
        InputError
            If the image has more pixels than may be: what is kept of it must not be had either.
        OSError
            If the file cannot be read.
        """
        size = stored_size(path)
        if size is not None:
            refuse_many_pixels(path, size)
        content = content_hash(path)
        rest = hashlib.sha256(f"{self.version}\0{content}\0{decisive}".encode()).hexdigest()
        return content[:_OF_CONTENT] + rest[_OF_CONTENT:]

    def read_tensors(self, key: str) -> tuple[dict[str, Any], tuple[Tensor, ...]] | None:
        """What was written, which is now the most recently used entry; None if there is none, or it is damaged.

        The tensors lie in the mapped file.
        """
        path = self._path(key)
        try:
            if not stat.S_ISREG(path.lstat().st_mode):  # a pipe would be waited for, and a link leads elsewhere
                return None
            with safe_open(path, "pt") as file:
                checksum, about = file.metadata()["checksum"], file.metadata()["about"]
                tensors = tuple(file.get_tensor(str(number)) for number in range(len(file.keys())))
            if checksum != _checksum(about, tensors):
                return None
            values: dict[str, Any] = Fields(read_json(about)).values  # type: ignore[assignment]
            if values.pop("key", None) != key:  # it was put in the place of another
                return None
        except (OSError, RuntimeError, SafetensorError, KeyError, TypeError, ValueError):
            return None  # a RuntimeError is torch's, of a file that vanished after its header was read
        with suppress(OSError):  # the folder may be one that can only be read
            os.utime(path)
        return values, tensors

    def write_tensors(self, key: str, values: Mapping[str, Any], tensors: Sequence[Tensor]) -> None:
        """Keep an entry of JSON and contiguous tensors; where that is impossible, say so once and go on without."""
        if not self.writes:
            return
        about = json.dumps({**values, "key": key}, sort_keys=True)
        numbered = {str(number): tensor for number, tensor in enumerate(tensors)}
        metadata = {"about": about, "checksum": _checksum(about, tensors)}
        path, size = self._path(key), sum(tensor.nbytes for tensor in tensors)
        try:
            if size <= _COPIED:
                write_bytes_whole(path, save(numbered, metadata), durable=False)
            else:
                write_whole(path, lambda temporary: save_file(numbered, temporary, metadata), durable=False)
        except (InputError, SafetensorError) as error:
            self.writes = False
            if self.root not in _warned_folders:
                _warned_folders.add(self.root)
                why = " ".join(str(error).split())
                warnings.warn(f"features and images are not kept: {why}", stacklevel=3)
        self._written += size
        if self._written * _TRIMS_PER_LIMIT > self.limit:
            self.trim()

    def remove(self, path: Path) -> int:
        """Remove all entries of an image file, and say how many there were.

        Raises
        ------
        OSError
            If the file cannot be read.
        """
        entries = list(self.folder.glob(f"{content_hash(path)[:_OF_CONTENT]}*.safetensors"))
        for entry in entries:
            remove_entry(entry)
        return len(entries)

    def trim(self) -> None:
        """See :func:`~padim_zoo.core.cache_folder.trim`."""
        self._written = 0
        trim(self.root, self.limit)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def _warn_of_others(root: Path) -> None:
    """Say once that other users may write to a folder: what they put there is believed if its checksum is right."""
    if root in _warned_folders or os.name != "posix":
        return
    try:
        status = root.stat()
    except OSError:
        return
    if status.st_mode & stat.S_IWOTH or status.st_uid not in (os.getuid(), 0):
        _warned_folders.add(root)
        warnings.warn(
            f"others may write to the cache folder {root}, and so change scores: choose another by PADIM_ZOO_CACHE",
            stacklevel=4,
        )


def _checksum(about: str, tensors: Sequence[Tensor]) -> str:
    checksum = zlib.crc32(about.encode())
    for tensor in tensors:
        checksum = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        array: Any = tensor.flatten().view(torch.uint8).numpy()
        checksum = zlib.crc32(array.data, checksum)
    return f"{checksum:08x}"
