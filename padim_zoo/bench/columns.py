"""The columns of a leaderboard in a table: which tell its rows apart, their headings, how their values are written."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd

from padim_zoo.bench.bars import Axis, cost_axis, metric_axis
from padim_zoo.bench.costs import COSTS, MAIN_COSTS
from padim_zoo.bench.leaderboard import (
    CAME_OUT,
    CONFIGURED,
    HASHES,
    MODEL,
    NUMBERS,
    RATES,
    SHOWN_RATES,
    better_values,
    difference_column,
    is_mean,
    published_column,
)
from padim_zoo.metrics.metric import METRICS, main_metrics, title_of

_TELLING = (*("dataset", *MODEL, *NUMBERS, *CONFIGURED, "precision_asked", *HASHES),)
"""The columns that tell rows apart, the most telling first."""

_PUBLISHED = frozenset(map(published_column, METRICS))
DIFFERENCES = frozenset(map(difference_column, METRICS))

Rows = list[dict[str, Any]]


def shared_settings(rows: Rows) -> dict[str, Any]:
    """What all rows have in common, mean rows aside: these lack what they average over."""
    runs = [row for row in rows if not is_mean(row)] or rows
    by_name = {name: {row[name] for row in runs} for name in _TELLING if name not in ("category", *HASHES)}
    shared = {name: values.pop() for name, values in by_name.items() if len(values) == 1 and None not in values}
    if shared.pop("precision_asked", None) == "auto":
        computed = shared.get("precision", "auto")
        shared["precision"] = "auto" if computed == "auto" else f"auto ({computed})"
    return shared


def tell_apart(rows: Rows, names: Iterable[str], telling: Iterable[str] = ("category",)) -> list[str]:
    """Some columns, and of others those that tell more rows apart: what follows from those before it is left out."""
    telling = list(telling)
    groups = numbered(tuple(row[name] for name in telling) for row in rows)
    for name in names:
        finer = numbered(zip(groups, (row[name] for row in rows), strict=True))
        if max(finer, default=0) > max(groups, default=0):
            telling.append(name)
            groups = finer
    return telling


def numbered(keys: Iterable[Hashable]) -> list[int]:
    """Equal numbers for equal keys, counted from 0."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def telling_columns(rows: Rows) -> list[str]:
    """The columns that it takes to tell the rows of a board apart."""
    telling = tell_apart(rows, _TELLING)
    # What auto came to is shown wherever it differs, though it tells no rows apart that were not apart already.
    differing = [name for name in CAME_OUT if len({row[name] for row in rows if row[name] is not None}) > 1]
    return [*telling, *(name for name in differing if name not in telling)]


def heading(name: str) -> str:
    """The heading of a column, in two lines where it has two words."""
    for prefix, column_of in (("publ.", published_column), ("Δ", difference_column)):
        for metric in METRICS.values():
            if name == column_of(metric.name):
                return f"{prefix}\n{metric.title.split()[0]}"
    return COSTS[name].heading if name in COSTS else title_of(name).replace(" ", "\n")


def title_in_line(name: str) -> str:
    """The heading of a column in one line."""
    return heading(name).replace("\n", " ")


NOTHING_PUBLISHED = "nothing is published for these rows: figures are of MVTec AD with the settings of a paper"


def lacks_published(board: pd.DataFrame) -> bool:
    """Whether published figures were looked for, and there are none."""
    return "published_source" in board.columns and bool(board["published_source"].isna().all())


def metrics_to_show(board: pd.DataFrame, sorted_by: str | None) -> list[str]:
    """The main metrics, what the threshold does, and what the rows are sorted by if that has a best value too.

    But for the first metric, those without a value in any row are left out.
    """
    first, *others = [*main_metrics(), *SHOWN_RATES]
    names = [first, *(name for name in others if board[name].notna().any())]
    added = sorted_by is not None and sorted_by in better_values() and sorted_by not in (*names, *MAIN_COSTS)
    return [*names, str(sorted_by)] if added else names


def column_with_bars(board: pd.DataFrame, sorted_by: str | None) -> str | None:
    """What the rows are sorted by if it has a best value, or else the first main metric; None without any value."""
    names = [sorted_by] if sorted_by is not None and sorted_by in better_values() else main_metrics()
    return next((name for name in names if board[name].notna().any()), None)


def axis_of(name: str, values: list[float]) -> Axis | None:
    """The axis of the bars of a metric, a rate or a cost; None if there is nothing to draw."""
    end = METRICS[name].range[1] if name in METRICS else 1.0
    return metric_axis(values, end) if better_values()[name] == "high" and math.isfinite(end) else cost_axis(values)


def value_text(row: dict[str, Any], name: str) -> str:
    """A metric with its deviation, a rate, a difference or a cost as tables show it."""
    value = row[name]
    if value is None:
        return "–"
    if name in DIFFERENCES:
        return f"{value:+.3f}"
    if name in METRICS or name in RATES or name in _PUBLISHED:
        return f"{value:.3f}{_plus_minus(row.get(f'{name}_std'))}"
    return cost_text(value)


def cost_text(value: float) -> str:
    """A cost in three digits or more."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _plus_minus(deviation: float | None) -> str:
    """Nothing where nothing deviates, as of a detector without seed: ±.000 would say that it was measured."""
    if deviation is None or deviation < 1e-9:
        return ""
    return "±<.001" if deviation < 5e-4 else f"±{deviation:.3f}".replace("0.", ".")
