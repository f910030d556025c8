"""Groups cut further, where there are fewer than workers or shards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from padim_zoo.bench.run import Run


def split_groups(in_groups: Sequence[list[Run]], workers: int, each: int = 1) -> list[list[Run]]:
    """Halve the largest groups until there are enough for some workers, or none can be cut.

    Groups are cut by seed and detector until each worker has so many. Runs that differ in their estimator alone share a
    pass over the patches, and are cut only where a worker would have none. Each part extracts the features of its group
    again, so groups are not cut where there are enough.

    Parameters
    ----------
    in_groups : sequence of list of Run
    workers : int
        Or shards.
    each : int
        Parts for each of them.

    Returns
    -------
    list of list of Run
        The same runs in the same order.
    """
    by_folds = [[list(unit) for _, unit in groupby(group, key=_shared)] for group in in_groups]
    parts = _halved(by_folds, workers * each)
    by_run = [[[run] for unit in units for run in unit] for units in parts]
    return [[run for unit in units for run in unit] for units in _halved(by_run, workers)]


def _halved(parts: list[list[list[Run]]], wanted: int) -> list[list[list[Run]]]:
    """Lists of units, of which the largest are halved."""
    while parts and len(parts) < wanted:
        largest = max(range(len(parts)), key=lambda number: (len(parts[number]) > 1, sum(map(len, parts[number]))))
        units = parts[largest]
        if len(units) < 2:
            break
        parts[largest : largest + 1] = [units[: len(units) // 2], units[len(units) // 2 :]]
    return parts


def _shared(run: Run) -> str:
    """What runs agree in that share folds."""
    return run.config.replace(estimator=None, plugins=()).id
