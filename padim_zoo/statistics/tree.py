"""Many statistics to one, two by two in a tree that their number alone decides: rounding is the same wherever."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def reduce_in_tree(parts: Iterable[T], join: Callable[[T, T], T]) -> T:
    """Join parts as they come: the first two, the next two, these four, and so on.

    Of n parts, at most log₂ n + 2 are alive.

    Parameters
    ----------
    parts : iterable
        At least one, in their order.
    join : callable
        Takes an earlier part and a later one, and may use up both.
    """
    waiting: list[tuple[int, T]] = []
    for part in parts:
        count = 1
        while waiting and waiting[-1][0] == count:
            part = join(waiting.pop()[1], part)
            count *= 2
        waiting.append((count, part))
    _, whole = waiting.pop()
    while waiting:
        whole = join(waiting.pop()[1], whole)
    return whole
