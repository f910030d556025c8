"""Groups of items: those that links connect, and those that bear one name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def connected_groups(n: int, links: Sequence[tuple[int, int]]) -> np.ndarray:
    """Groups (n,), int64, of items that links connect, numbered in the order of their first items."""
    from scipy.sparse import coo_array  # who fits without a threshold need not wait for it
    from scipy.sparse.csgraph import connected_components

    first, second = np.array(links, dtype=np.int64).reshape(-1, 2).T
    _, groups = connected_components(coo_array((np.ones(len(first)), (first, second)), shape=(n, n)), directed=False)
    return np.asarray(groups, dtype=np.int64)


def numbered_groups(names: Sequence[object]) -> np.ndarray:
    """Groups (n,), int64, of equal names, numbered in the order of their first items."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def joined_groups(*groups: np.ndarray) -> np.ndarray:
    """The finest groups (n,) that keep together what any of the given ones does."""
    n = len(groups[0])
    links = []
    for one in groups:
        _, first, inverse = np.unique(one, return_index=True, return_inverse=True)
        links += list(zip(first[inverse].tolist(), range(n), strict=True))
    return connected_groups(n, links)
