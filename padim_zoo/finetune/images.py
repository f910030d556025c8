"""The images of a training, decoded once, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import free_memory
from padim_zoo.core.spill import empty, release, spill_above
from padim_zoo.data.loading import batches
from padim_zoo.data.transform import Transform

_BATCH = 32


def load_images(paths: Sequence[Path], transform: Transform, memory: int | None = None) -> Tensor:
    """Transformed images; beyond the memory allowed they lie in a mapped file that vanishes with the process.

    Parameters
    ----------
    paths : sequence of Path
    transform : Transform
    memory : int, optional
        Bytes; by default half of what is free.

    Returns
    -------
    Tensor (n, 3, H, W), uint8

    Raises
    ------
    InputError
        If there is no image, one cannot be read, two differ in size, or they fit neither memory nor disk.
    """
    whole, n_read = None, 0
    with spill_above(free_memory() // 2 if memory is None else memory):
        for batch in batches(paths, transform, _BATCH):
            if whole is None:
                whole = empty(len(paths), *batch.shape[1:], dtype=batch.dtype)
            whole[n_read : n_read + len(batch)] = batch
            n_read += len(batch)
            release()
    if whole is None:
        raise InputError("no images were given: expected normal images")
    return whole
