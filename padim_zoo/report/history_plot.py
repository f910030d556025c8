"""Accuracy, time and memory over commits: ``padim-zoo plot --history``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from padim_zoo.bench.check.history import read_history
from padim_zoo.bench.costs import COSTS
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.metric import title_of
from padim_zoo.report.plot_style import WIDTH, figure_file, lines

_MOST_TICKS = 12
_SHORT = 7
"""Letters of a commit."""


def plot_history(path: Path, output: Path) -> None:
    """Draw a history: a panel of accuracy, one of times and one of memory; points of regressions are crosses.

    Raises
    ------
    InputError
        If the history is empty or none, the suffix is unknown, or matplotlib is not installed.
    """
    entries = read_history(path)
    if not entries:
        raise InputError(f"{path} has no entry: expected what padim-zoo check --history wrote")
    times = [name for name, cost in COSTS.items() if cost.is_time]
    sizes = [name for name in COSTS if name not in times]
    panels = {
        "accuracy": {title_of(name): _values(entries, "metrics", name) for name in entries[0]["metrics"]},
        "time": {_heading(name): _values(entries, "costs", name) for name in times},
        "memory": {_heading(name): _values(entries, "costs", name) for name in sizes},
    }
    with figure_file(output) as fig:
        fig.set_size_inches(WIDTH, 5.4)
        axes = fig.subplots(3, 1, sharex=True)
        for ax, (title, named) in zip(axes, panels.items(), strict=True):
            _draw(ax, title, named, entries)
        axes[1].set_yscale("log")
        axes[2].set_yscale("log")
        ticks = range(0, len(entries), math.ceil(len(entries) / _MOST_TICKS))
        axes[2].set_xticks(list(ticks), [_label(entries[tick]) for tick in ticks], rotation=30, ha="right")


def _draw(ax: Any, title: str, named: dict[str, list[float]], entries: list[dict[str, Any]]) -> None:
    shown = {name: values for name, values in named.items() if not all(map(math.isnan, values))}
    worse = [place for place, entry in enumerate(entries) if entry.get("regressions")]
    for look, (name, values) in zip(lines(len(shown)), shown.items(), strict=True):
        ax.plot(range(len(values)), values, marker="o", label=name, **look)
        ax.plot(worse, [values[place] for place in worse], "x", color=look["color"], markersize=8)
    ax.set_ylabel(title)
    if shown:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _values(entries: list[dict[str, Any]], part: str, name: str) -> list[float]:
    values = [entry[part].get(name) for entry in entries]
    return [float(value) if isinstance(value, (int, float)) else math.nan for value in values]


def _heading(cost: str) -> str:
    return COSTS[cost].heading.replace("\n", " ")


def _label(entry: dict[str, Any]) -> str:
    return str(entry.get("commit") or entry.get("date", ""))[: _SHORT if entry.get("commit") else 10]
