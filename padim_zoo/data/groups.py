"""Groups of items: those that links connect, and those that bear one name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class LinkedItems:
    """Items 0 … n - 1, and which of them links connect."""

    def __init__(self, n: int) -> None:
        self._parents = list(range(n))

    def _root(self, item: int) -> int:
        while self._parents[item] != item:
            self._parents[item] = self._parents[self._parents[item]]
            item = self._parents[item]
        return item

    def are_linked(self, one: int, other: int) -> bool:
        """Whether links lead from one to the other."""
        return self._root(one) == self._root(other)

    def link(self, one: int, other: int) -> None:
        """Link two items."""
        self._parents[self._root(other)] = self._root(one)

    def groups(self) -> np.ndarray:
        """Groups (n,), int64, numbered in the order of their first items."""
        return numbered_groups([self._root(item) for item in range(len(self._parents))])


def connected_groups(n: int, links: Sequence[tuple[int, int]]) -> np.ndarray:
    """Groups (n,), int64, of items that links connect, numbered in the order of their first items."""
    linked = LinkedItems(n)
    for link in links:
        linked.link(*link)
    return linked.groups()


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
