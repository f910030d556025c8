"""Which runs the best one of a category cannot be told from: DeLong's paired test on the image scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from padim_zoo.bench.store import DamagedRunError, RunStore
from padim_zoo.metrics import paired_difference
from padim_zoo.metrics.metric import DEFAULT_METRIC

LEVEL = 0.05
"""P-values below it tell two runs apart."""
_REPLICATES = 100
"""Of an interval that is not shown."""


def ties_of(rows: Sequence[dict[str, Any]], store: RunStore) -> dict[str, list[str]]:
    """Ids of other runs by the id of the best one of each category, of the same test images.

    ``compare`` makes the same test. Where it is undefined, nothing tells the runs apart.
    """
    in_categories: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for row in rows:
        if row["id"] is not None and isinstance(row[DEFAULT_METRIC], float) and not math.isnan(row[DEFAULT_METRIC]):
            in_categories.setdefault((row["dataset"], row["category"]), []).append(row)
    ties: dict[str, list[str]] = {}
    for rivals in in_categories.values():
        arrays = {row["id"]: scores for row in rivals if (scores := _scores(store, row["id"])) is not None}
        rivals = [row for row in rivals if row["id"] in arrays]
        if len(rivals) < 2:
            continue
        best = max(rivals, key=lambda row: row[DEFAULT_METRIC])
        others = [row["id"] for row in rivals if row is not best]
        ties[best["id"]] = [one for one in others if not _differ(arrays[best["id"]], arrays[one])]
    return ties


def _scores(store: RunStore, run: str) -> Mapping[str, np.ndarray] | None:
    with suppress(DamagedRunError, KeyError):
        arrays = store.scores(run)
        return {name: arrays[name] for name in ("labels", "scores")}
    return None


def _differ(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    if not np.array_equal(one["labels"], other["labels"]):
        return True  # of other images: there is no pair
    difference = paired_difference(one["labels"], other["scores"], one["scores"], replicates=_REPLICATES)
    return difference.p_value < LEVEL
