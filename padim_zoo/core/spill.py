"""Arrays larger than memory allows lie in files that are mapped, and that are gone when the process ends.

Which arrays are too large is said once, by :func:`spill_above`, for all that is computed within it. Estimators and
embeddings make their large arrays here, block by block, and need not know where they lie.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from weakref import WeakSet

import torch
from torch import Tensor

from padim_zoo.core.cache_folder import cache_folder
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import amount
from padim_zoo.core.moving import HOST

PART_BYTES = 16 * 2**20
"""What :func:`build_array` works on at once; changes speed and memory, never a result."""

_largest: ContextVar[float] = ContextVar("largest", default=math.inf)
_lock = threading.Lock()
_mapped: WeakSet[mmap.mmap] = WeakSet()


class NoRoomError(InputError):
    """An array fits neither the memory allowed nor the disk."""


@contextmanager
def spill_above(n_bytes: float) -> Iterator[None]:
    """Let arrays of more than ``n_bytes`` be made in files, within this context and thread."""
    token = _largest.set(n_bytes)
    try:
        yield
    finally:
        _largest.reset(token)


def is_large(n_bytes: int) -> bool:
    """Whether an array of so many bytes lies in a file here."""
    return n_bytes > _largest.get()


def empty(*shape: int, dtype: torch.dtype, device: torch.device = HOST) -> Tensor:
    """A tensor of undefined content, in memory or, when it is too large for that, in a mapped file.

    The file has no name: it vanishes with the tensor, or with the process, however that ends. It lies in the folder
    ``scratch`` of the cache, or in the system's temporary folder where that cannot be written to. Files stand for main
    memory alone, and not for that of another ``device``.

    Raises
    ------
    NoRoomError
        If the disk has no room; nothing is written then.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if not is_large(n_bytes) or device != HOST:
        return torch.empty(shape, dtype=dtype, device=device)
    mapped = _map(n_bytes)
    with _lock:
        _mapped.add(mapped)
    return torch.frombuffer(mapped, dtype=dtype).view(shape)


def build_array(
    shape: tuple[int, ...], dtype: torch.dtype, part: Callable[[slice], Tensor], bytes_per_row: int = 0
) -> Tensor:
    """A tensor made of ``part(rows)`` for all its rows, some at a time, on the device that these lie on.

    Parameters
    ----------
    shape : tuple of int
    dtype : torch.dtype
    part : callable
        Takes a slice of rows, the first dimension; returns that part of the tensor.
    bytes_per_row : int
        What ``part`` reads for one row, if that is more than what it returns.
    """
    per_row = max(1, bytes_per_row, math.prod(shape[1:]) * dtype.itemsize)
    size = max(1, PART_BYTES // per_row)
    if shape[0] <= size and shape[0] * per_row <= _largest.get():
        return part(slice(0, shape[0]))
    whole: Tensor | None = None
    for start in range(0, shape[0], size):
        rows = slice(start, min(start + size, shape[0]))
        made = part(rows)
        whole = empty(*shape, dtype=dtype, device=made.device) if whole is None else whole
        whole[rows] = made
        release()
    assert whole is not None
    return whole


def join_columns(parts: Sequence[Tensor]) -> Tensor:
    """Tensors side by side, joined along their second dimension, some rows at a time."""
    rows, *rest = parts[0].shape
    shape = rows, sum(int(part.shape[1]) for part in parts), *rest[1:]
    whole = empty(*shape, dtype=parts[0].dtype, device=parts[0].device)
    size = max(1, PART_BYTES // max(1, whole[:1].nbytes))
    for start in range(0, rows, size):
        # Straight to its place, and not from a copy of these rows.
        torch.cat([part[start : start + size] for part in parts], 1, out=whole[start : start + size])
        release()
    return whole


def release() -> None:
    """Within :func:`spill_above`, take mapped arrays out of this process's memory; the next use reads them again.

    Their content stays, in the files and as long as there is room in the system's page cache.
    """
    if math.isinf(_largest.get()) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    with _lock:
        mapped = list(_mapped)
    for each in mapped:
        # The maps are shared: unlike private ones, they lose nothing by this, even while another thread writes.
        each.madvise(mmap.MADV_DONTNEED)
    if mapped:
        trim_heap()


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAPPED_ABOVE = 4 * 2**20
_KEPT_UP_TO = 32 * 2**20
"""What glibc keeps, at most, of its own accord."""


def trim_heap() -> None:
    """Give freed memory back: glibc keeps blocks of some megabytes, and with them a heap in pieces that only grows."""
    with suppress(OSError, TypeError, AttributeError):  # another C library, or none by no name, as on Windows
        ctypes.CDLL(None).malloc_trim(0)


def return_freed_memory() -> None:
    """From now on, give large arrays back to the system when they are freed.

    glibc keeps them once some were freed, for arrays to come: beside large images, that is memory for nothing.
    """
    with suppress(OSError, TypeError, AttributeError):  # as above
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED_ABOVE)


@functools.cache
def keep_freed_memory() -> None:
    """From now on, keep the memory of large arrays that are freed, for arrays to come, as glibc does by itself.

    It does not where ``MALLOC_TRIM_THRESHOLD_`` is set, as Dask does for its workers: there the system clears the pages
    of every array anew. Only the first call of a process counts, so that :func:`return_freed_memory` has the last word.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with suppress(OSError, TypeError, AttributeError):  # as above
            ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_UP_TO)
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _KEPT_UP_TO)


def _map(n_bytes: int) -> mmap.mmap:
    folder = _folder()
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise _no_room(folder, n_bytes, f"{amount(free)} are free")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # A write to a map that the disk has no room for would kill the process: the room is taken now.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                file.truncate(n_bytes)
            return mmap.mmap(file.fileno(), n_bytes)
    except OSError as error:
        raise _no_room(folder, n_bytes, error.strerror or str(error)) from None


def _folder() -> Path:
    folder = cache_folder() / "scratch"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())


def _no_room(folder: Path, n_bytes: int, reason: str) -> NoRoomError:
    return NoRoomError(
        f"the images do not fit the memory allowed, and {folder} has no room for {amount(n_bytes)} of them "
        f"({reason}): free some disk, name another folder (PADIM_ZOO_CACHE), or give more where there is --memory"
    )
