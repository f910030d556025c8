"""Groups cut further, where there are fewer than workers or shards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from padim_zoo.bench.run import Run


def split_groups(in_groups: Sequence[list[Run]], wanted: int) -> list[list[Run]]:
    """Halve the largest groups until there are so many, or none can be cut.

    Runs that differ in their estimator alone stay together, for they share a pass over the patches. Each part extracts
    the features of its group again, so groups are not cut where there are enough.

    Parameters
    ----------
    in_groups : sequence of list of Run
    wanted : int

    Returns
    -------
    list of list of Run
        The same runs in the same order.
    """
    parts = [[list(unit) for _, unit in groupby(group, key=_shared)] for group in in_groups]
    while parts and len(parts) < wanted:
        largest = max(range(len(parts)), key=lambda number: (len(parts[number]) > 1, sum(map(len, parts[number]))))
        units = parts[largest]
        if len(units) < 2:
            break
        parts[largest : largest + 1] = [units[: len(units) // 2], units[len(units) // 2 :]]
    return [[run for unit in units for run in unit] for units in parts]


def _shared(run: Run) -> str:
    """What runs agree in that share folds."""
    return run.config.replace(estimator=None, plugins=()).id
