"""Work on patches, block by block: one block per thread, linear algebra single-threaded inside.

Patches are independent. Threads inside a batched LAPACK call fight over matrices that are too small to share; threads
over blocks do not, and a block that fits the cache is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

BLOCK_BYTES = 16 * 2**20
"""Working memory of one block; changes speed and memory, never a result."""


@contextmanager
def _one_thread_each() -> Iterator[int]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def blocks(patches: int, bytes_per_patch: int) -> list[slice]:
    """Cut ``patches`` into slices whose working memory is about :data:`BLOCK_BYTES`."""
    size = max(1, min(patches, BLOCK_BYTES // max(1, bytes_per_patch)))
    return [slice(start, min(start + size, patches)) for start in range(0, patches, size)]


def iterate_blocks(function: Callable[[slice], T], patches: int, bytes_per_patch: int) -> Iterator[T]:
    """Call ``function`` on every block of patches, in threads; yield results in the order of the blocks.

    Parameters
    ----------
    function : callable
        Takes a slice of patches. Its results must not depend on how patches are cut into blocks.
    patches : int
        Number of patches.
    bytes_per_patch : int
        Working memory that ``function`` needs for one patch.
    """
    parts = blocks(patches, bytes_per_patch)
    with _one_thread_each() as threads:
        if threads == 1 or len(parts) == 1:
            yield from map(function, parts)
        else:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield from pool.map(function, parts)


def map_blocks(function: Callable[[slice], T], patches: int, bytes_per_patch: int) -> list[T]:
    """All results of :func:`iterate_blocks`."""
    return list(iterate_blocks(function, patches, bytes_per_patch))
