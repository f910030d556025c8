"""Severity curves: what a run makes of corrupted images, over the amounts of a corruption."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from padim_zoo.bench.corruption_table import CORRUPTED, NO_CORRUPTIONS
from padim_zoo.bench.store import RunStore
from padim_zoo.core.errors import InputError
from padim_zoo.data.corruptions import CORRUPTIONS
from padim_zoo.metrics.metric import title_of
from padim_zoo.report.plot_style import WIDTH, in_lines, labeled, lines, short_names

_LETTERS_PER_INCH = 16
"""Of the names of axes, with room to spare."""


def draw_corruptions(fig: Any, store: RunStore, rows: list[dict[str, Any]], metric: str) -> None:
    """A column for each corruption, a line for each configuration: the mean of its runs. Clean images are a point.

    Raises
    ------
    InputError
        If no run has corruptions.
    """
    runs = [row for row in rows if row["corruptions"]]
    if not runs:
        raise InputError(NO_CORRUPTIONS)
    kinds = [
        name for name in CORRUPTIONS if any(part["corruption"] == name for row in runs for part in row["corruptions"])
    ]
    names = short_names([row["name"] for row in runs])
    width = max(WIDTH / 2, min(WIDTH, 1.6 * len(kinds)))
    letters = int(_LETTERS_PER_INCH * width / (len(kinds) + 0.5))
    fig.set_size_inches(width, 1.5 * len(CORRUPTED))
    axes = fig.subplots(len(CORRUPTED), len(kinds), squeeze=False, sharey="row", sharex="col")
    for line_of_axes, rate in zip(axes, CORRUPTED, strict=True):
        for ax, kind in zip(line_of_axes, kinds, strict=True):
            for look, (name, short) in zip(lines(len(names)), names.items(), strict=True):
                points = _points([row for row in runs if row["name"] == name], kind, rate)
                ax.plot(list(points), list(points.values()), marker="o", markersize=3, label=short, **look)
            ax.set_ylim(-0.03, 1.03)
        line_of_axes[0].set_ylabel(title_of(rate))
    for ax, kind in zip(axes[-1], kinds, strict=True):
        ax.set_xlabel(in_lines(f"{kind}: {CORRUPTIONS[kind].unit}", letters))
    legend = labeled(axes.flat)
    fig.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=3)


def _points(runs: list[dict[str, Any]], kind: str, rate: str) -> dict[float, float]:
    """Amount to the mean rate of some runs, by rising amount; clean images stand at the amount that changes nothing."""
    values: dict[float, list[float]] = defaultdict(list)
    for part in (part for row in runs for part in row["corruptions"]):
        if part["corruption"] in (None, kind) and part.get(rate) is not None:
            values[CORRUPTIONS[kind].clean if part["amount"] is None else part["amount"]].append(part[rate])
    return {amount: sum(values[amount]) / len(values[amount]) for amount in sorted(values)}
