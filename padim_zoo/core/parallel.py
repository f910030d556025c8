"""Work on patches, block by block: one block per thread, linear algebra single-threaded inside.

Patches are independent. Threads inside a batched LAPACK call fight over matrices that are too small to share; threads
over blocks do not, and a block that fits the cache is read once. Another device has threads of its own: there blocks
are large, and come one after the other.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from padim_zoo.core.moving import HOST
from padim_zoo.core.progress import stage
from padim_zoo.core.spill import empty, release

T = TypeVar("T")

BLOCK_BYTES = 16 * 2**20
"""Working memory of one block; changes speed and memory, never a result."""

DEVICE_BLOCK_BYTES = 512 * 2**20
"""The same on another device, where each operation takes microseconds to start and small ones leave it idle."""

FEW_NUMBERS = 2**20
"""Work on fewer numbers, in small operations, is done by one thread before others that sleep are awake.

It was measured on two cores, where one thread is as fast up to eight times as many. With many cores it may be slower,
by a millisecond or so at most: it writes as many numbers in that time.
"""

MANY_NUMBERS = 3 * 2**20
"""A single operation that reads more of them is worth waking threads for."""

_lock = threading.Lock()
_inside = 0
_wished = 1


class _Own(threading.local):
    """What a thread of Python knows of itself: whether it is single-threaded, and how many threads it had before."""

    single = False
    seen = False
    threads = 1


_own = _Own()


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Make torch single-threaded in this thread; gives the number of threads there were.

    Torch's number is one for the whole process, which a thread takes over at its first operation and keeps. So a thread
    that comes while another is in here may have taken over a single one; it gets the number that was there before.
    """
    global _inside, _wished
    if _own.single:
        yield _own.threads
        return
    with _lock:
        before = torch.get_num_threads()  # which also has this thread take over torch's number, once and for all
        if _inside == 0:
            _wished = before
        elif not _own.seen and before == 1:
            before = _wished
        _inside += 1
        torch.set_num_threads(1)
    _own.single, _own.seen, _own.threads = True, True, before
    try:
        yield before
    finally:
        _own.single = False
        with _lock:
            _inside -= 1
            torch.set_num_threads(before)


def _forget_other_threads() -> None:
    """In a process that was forked: threads that were in :func:`_one_thread_each` are not there, and never leave it."""
    global _lock, _inside
    _lock = threading.Lock()
    others = _inside - _own.single
    _inside = int(_own.single)
    if others and not _own.single:
        torch.set_num_threads(_wished)  # for threads that begin here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)


def _stay_single() -> None:
    """Make torch single-threaded in this thread, for as long as it lives."""
    torch.get_num_threads()
    torch.set_num_threads(1)
    _own.single = _own.seen = True


@contextmanager
def one_thread_for(numbers: int) -> Iterator[None]:
    """Make torch single-threaded in this thread, for work that touches few numbers.

    Threads sleep when there is nothing to do. One image asks for them in twenty small operations, and each of these
    waits until they are awake: a tenth of a millisecond.
    """
    if numbers > FEW_NUMBERS:
        yield
    else:
        with _one_thread_each():
            yield


@contextmanager
def all_threads_for(numbers: int) -> Iterator[None]:
    """Within :func:`one_thread_for`, take all threads for a single operation that reads many numbers."""
    if numbers <= MANY_NUMBERS or not _own.single:
        yield
        return
    torch.set_num_threads(_own.threads)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def blocks(patches: int, bytes_per_patch: int, device: torch.device = HOST) -> list[slice]:
    """Cut ``patches`` into slices whose working memory is about that of a block on the device."""
    n_bytes = BLOCK_BYTES if device == HOST else DEVICE_BLOCK_BYTES
    size = max(1, min(patches, n_bytes // max(1, bytes_per_patch)))
    return [slice(start, min(start + size, patches)) for start in range(0, patches, size)]


def for_each_block(
    function: Callable[[slice], T],
    patches: int,
    bytes_per_patch: int,
    consume: Callable[[slice, T], None],
    device: torch.device = HOST,
) -> None:
    """Call ``function`` on every block of patches, in threads, and ``consume`` on the results, in order, in this one.

    Parameters
    ----------
    function : callable
        Takes a slice of patches. Its results must not depend on how patches are cut into blocks.
    patches : int
        Number of patches.
    bytes_per_patch : int
        Working memory that ``function`` needs for one patch.
    consume : callable
        Takes the slice and what ``function`` made of it.
    device : torch.device
        Where ``function`` computes.
    """
    parts = blocks(patches, bytes_per_patch, device)
    with _one_thread_each() as threads, stage("computing", patches, "patches") as progress:
        if threads == 1 or len(parts) == 1 or device != HOST:
            for part in parts:
                consume(part, function(part))
                progress.advance(part.stop - part.start)
                release()
            return
        with ThreadPoolExecutor(threads, initializer=_stay_single) as pool:
            # Not pool.map: where results are consumed slowly (to disk), all of them would wait in memory.
            left = iter(parts)
            pending: deque[tuple[slice, Future[T]]] = deque()
            for part in islice(left, 2 * threads):
                pending.append((part, pool.submit(function, part)))
            try:
                while pending:
                    part, future = pending.popleft()
                    consume(part, future.result())
                    progress.advance(part.stop - part.start)
                    release()
                    del future  # or its result stays while the next one is waited for
                    for part in islice(left, 1):
                        pending.append((part, pool.submit(function, part)))
            finally:
                for _, future in pending:
                    future.cancel()


def map_blocks(
    function: Callable[[slice], tuple[Tensor, ...]], patches: int, bytes_per_patch: int, device: torch.device = HOST
) -> tuple[Tensor, ...]:
    """Tensors whose first dimension runs over all patches, filled block by block.

    Parameters
    ----------
    function : callable
        Takes a slice of p patches; returns tensors (p, …).
    patches, bytes_per_patch, device
        As of :func:`for_each_block`.
    """
    whole: list[Tensor] = []

    def place(part: slice, tensors: tuple[Tensor, ...]) -> None:
        if not whole:
            shapes = ((patches, *tensor.shape[1:]) for tensor in tensors)
            pairs = zip(shapes, tensors, strict=True)
            whole.extend(empty(*shape, dtype=tensor.dtype, device=tensor.device) for shape, tensor in pairs)
        for target, tensor in zip(whole, tensors, strict=True):
            target[part] = tensor

    for_each_block(function, patches, bytes_per_patch, place, device)
    return tuple(whole)
