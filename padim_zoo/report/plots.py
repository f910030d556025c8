"""Pictures of a run store for papers and slides, by matplotlib: `padim-zoo plot`."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from padim_zoo.bench.store import RunStore
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.metric import DEFAULT_METRIC, METRICS
from padim_zoo.report.board_plots import draw_folds, draw_heat_table, draw_histogram, draw_learning_curve, draw_pareto
from padim_zoo.report.corruption_plots import draw_corruptions
from padim_zoo.report.curve_plots import CURVES, draw_curves
from padim_zoo.report.page import report_data
from padim_zoo.report.plot_style import figure_file


def plot(
    store: RunStore, kind: str, output: Path, *, metric: str = DEFAULT_METRIC, categories: Sequence[str] = ()
) -> None:
    """Draw a picture of a run store.

    Parameters
    ----------
    store : RunStore
    kind : str
        A key of :data:`KINDS`.
    output : Path
        ``.pdf``, ``.png`` or ``.svg``.
    metric : str
        What all but curves, histograms and corruptions show.
    categories : sequence of str
        Categories to draw; ``*`` and ``?`` are wildcards. Empty for all.

    Raises
    ------
    InputError
        If the kind, the metric, the suffix or a category is unknown, or the store has nothing to draw, or matplotlib
        is not installed.
    """
    if metric not in METRICS:
        raise InputError(f"unknown metric {metric!r}: expected {', '.join(METRICS)}")
    if kind not in KINDS:
        raise InputError(f"unknown kind of plot {kind!r}: expected {', '.join(KINDS)}")
    with figure_file(output) as fig:
        documents = store.read_done()
        all_categories = sorted({document["config"]["category"] for document in documents})
        for pattern in categories:
            if not fnmatch.filter(all_categories, pattern):
                raise InputError(f"no run is of the category {pattern!r}: there are {', '.join(all_categories)}")
        if categories:
            shown = {name for pattern in categories for name in fnmatch.filter(all_categories, pattern)}
            documents = [document for document in documents if document["config"]["category"] in shown]
        KINDS[kind](fig, store, rows_with_runs(report_data(store, documents)), metric)


def rows_with_runs(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of :func:`report_data`, each with the folds and the corruptions of its run; none of a mean row."""
    empty: dict[str, Any] = {"folds": [], "corruptions": []}
    behind = [empty if row["mean"] else data["runs"][row["id"]] for row in data["rows"]]
    return [{**row, **{name: run[name] for name in empty}} for row, run in zip(data["rows"], behind, strict=True)]


KINDS: dict[str, Callable[[Any, RunStore, list[dict[str, Any]], str], None]] = {
    **{name.replace("_", "-"): partial(draw_curves, curve=name) for name in CURVES},
    "pareto": draw_pareto,
    "folds": draw_folds,
    "histogram": draw_histogram,
    "learning-curve": draw_learning_curve,
    "heat-table": draw_heat_table,
    "corruptions": draw_corruptions,
}
"""Kinds of plots, and what draws each."""
