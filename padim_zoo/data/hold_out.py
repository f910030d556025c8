"""Which normal images are held out for a test, where none is set apart: about every fifth, copies together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

EVERY = 5
"""Of so many normal images one is held out."""


def held_out_images(groups: Sequence[int] | np.ndarray) -> np.ndarray:
    """Which images (n,), bool, are held out: whole groups, in their order, as long as they are a fifth at most.

    Without copies that is every fifth image. If no group is small enough, the smallest one is held out; of a single
    group, its last image.

    Parameters
    ----------
    groups : ndarray (n,), int64
        Equal for images that show one thing.
    """
    groups = np.asarray(groups)
    names, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    order = np.argsort(first)
    chosen: list[int] = []
    seen = held = 0
    for name, size in zip(names[order].tolist(), sizes[order].tolist(), strict=True):
        seen += size
        if EVERY * (held + size) <= seen:
            held += size
            chosen.append(name)
    if not chosen and len(names) > 1:
        # Of equally small groups the last one, as of single images.
        smallest = order[::-1][np.argmin(sizes[order][::-1])]
        chosen = [int(names[smallest])]
    held_out: np.ndarray = np.isin(groups, chosen)
    if len(names) == 1:
        held_out[-1] = True
    return held_out
