"""What a trap is: an input that means something other than it seems, and a check of what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.traps.world import Check


class Trap(NamedTuple):
    """An input that once misled in silence.

    Attributes
    ----------
    name : str
        In docs/traps.md too.
    check : callable
        Alters a copy of a sound category, runs commands on it, and says what came of it.
    """

    name: str
    check: Check


TRAPS: list[Trap] = []
"""All traps, in the order of their modules."""


def trap(name: str) -> Callable[[Check], Check]:
    """Put a check into :data:`TRAPS`."""

    def add(check: Check) -> Check:
        TRAPS.append(Trap(name, check))
        return check

    return add
