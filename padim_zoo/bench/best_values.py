"""The best values of a leaderboard: of each metric and cost, among the rows of one category."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pandas as pd

from padim_zoo.bench.columns import numbered
from padim_zoo.bench.leaderboard import CONFIGURATION, better_values
from padim_zoo.metrics.metric import METRICS


def best_values(board: pd.DataFrame, names: list[str]) -> set[tuple[int, str]]:
    """Row number and column of every value of the configuration that no other of its category beats.

    What counts of a configuration is the mean over its seeds, and all its rows are marked: the luckiest draw of several
    is no merit. Of a metric that a setting defines, rows under other values of it are no rivals.
    """
    better = better_values()
    # Plain values: pandas takes milliseconds for each group.
    categories = [board[name].fillna("").tolist() for name in ("dataset", "category")]
    of_means = board["id"].isna().tolist()
    covered = board["categories"].tolist()
    settings = (board[name].astype(object).where(board[name].notna(), None).tolist() for name in CONFIGURATION)
    configurations = numbered(zip(*settings, strict=True))
    best: set[tuple[int, str]] = set()
    for name in (name for name in names if name in better):
        column = board[name].tolist()
        choose = max if better[name] == "high" else min
        defined_by = METRICS[name].defined_by if name in METRICS else None
        definitions = [] if defined_by is None else [board[defined_by].fillna("").tolist()]
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, key in enumerate(zip(*categories, of_means, *definitions, strict=True)):
            groups[key].append(number)
        for numbers in groups.values():
            # A mean over fewer categories is no rival of one over all: they may be the easy ones.
            most = max(covered[number] for number in numbers)
            values: dict[int, list[float]] = defaultdict(list)
            for number in numbers:
                if covered[number] == most and not math.isnan(column[number]):
                    values[configurations[number]].append(column[number])
            means = {configuration: math.fsum(drawn) / len(drawn) for configuration, drawn in values.items()}
            if len(means) > 1:
                winner = choose(means.values())
                best |= {
                    (number, name)
                    for number in numbers
                    if means.get(configurations[number]) == winner and not math.isnan(column[number])
                }
    return best
