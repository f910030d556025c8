"""Pictures of a run store for papers and slides, by matplotlib: `padim-zoo plot`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from padim_zoo.atomic import write_whole
from padim_zoo.bench.store import RunStore
from padim_zoo.errors import InputError, MissingExtraError
from padim_zoo.report.page import report_data

SUFFIXES = (".pdf", ".png", ".svg")
_TITLES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
_COSTS = {"ms_per_image_b1": "ms per image, batch 1", "model_mb": "model, MB"}


def plot(store: RunStore, kind: str, output: Path, *, figure: str = "image_auroc") -> None:
    """Draw a picture of a run store.

    Parameters
    ----------
    store : RunStore
    kind : str
        A key of :data:`KINDS`.
    output : Path
        ``.pdf``, ``.png`` or ``.svg``.
    figure : str
        What ``pareto`` and ``folds`` show.

    Raises
    ------
    InputError
        If the kind, the figure or the suffix is unknown, or the store has nothing to draw, or matplotlib is not
        installed.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind of plot {kind!r}: expected {', '.join(KINDS)}")
    if output.suffix not in SUFFIXES:
        raise InputError(f"{output} ends in {output.suffix or 'nothing'}: expected {', '.join(SUFFIXES)}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report", "a plot") from None
    documents = [document for document in store.read_all().documents if document["status"] == "done"]
    if not documents:
        raise InputError(f"{store.folder} holds no run that is done: fill it with padim-zoo bench")
    data = report_data(store, documents)
    if figure not in data["figures"]:
        raise InputError(f"unknown figure {figure!r}: expected {', '.join(data['figures'])}")
    # A figure of its own, and not pyplot's: that would need, or choose, a screen.
    canvas = Figure(figsize=(7, 5), layout="constrained")
    KINDS[kind](canvas, data, figure)
    write_whole(output, lambda temporary: canvas.savefig(temporary, format=output.suffix[1:], dpi=200))


def _runs(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in data["rows"] if not row["mean"]]


def _curves(canvas: Any, data: dict[str, Any], key: str, x: str, y: str) -> None:
    """All categories in one figure: a panel for each configuration, a line for each category."""
    runs = [row for row in _runs(data) if key in data["runs"][row["id"]]]
    names = list(dict.fromkeys(row["name"] for row in runs))
    if not names:
        raise InputError("no run has both normal and anomalous test images: there is no curve to draw")
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    canvas.set_size_inches(max(5.0, 3.4 * columns), max(4.2, 3.2 * rows))
    panels = canvas.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for panel, name in zip(panels, names, strict=False):
        for row in (row for row in runs if row["name"] == name):
            xs, ys = data["runs"][row["id"]][key]
            area = "" if row["image_auroc"] is None or key != "roc" else f" ({row['image_auroc']:.3f})"
            panel.plot(xs, ys, label=f"{row['category']}{area}", drawstyle="default" if key == "roc" else "steps-post")
        panel.set(title=name, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        panel.title.set_fontsize(8)
        panel.legend(fontsize=6, loc="lower right" if key == "roc" else "lower left", frameon=False)
        panel.grid(alpha=0.3)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    canvas.supxlabel(x)
    canvas.supylabel(y)


def _roc(canvas: Any, data: dict[str, Any], figure: str) -> None:
    _curves(canvas, data, "roc", "false positive rate", "true positive rate")


def _pr(canvas: Any, data: dict[str, Any], figure: str) -> None:
    _curves(canvas, data, "pr", "recall", "precision")


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices of the points than which no other costs as little and gains more, by cost."""
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda index: (costs[index], -gains[index])):
        if not front or gains[index] > gains[front[-1]]:
            front.append(index)
    return front


def _pareto(canvas: Any, data: dict[str, Any], figure: str) -> None:
    with_mean = {row["name"] for row in data["rows"] if row["mean"]}
    rows = [row for row in data["rows"] if (row["mean"] or row["name"] not in with_mean) and row[figure] is not None]
    if not rows:
        raise InputError(f"no run has a {figure}: choose another figure")
    canvas.set_size_inches(10, 4.6)
    for panel, (cost, title) in zip(canvas.subplots(1, 2, sharey=True), _COSTS.items(), strict=True):
        costs, gains = [row[cost] for row in rows], [row[figure] for row in rows]
        front = pareto_front(costs, gains)
        panel.plot([costs[i] for i in front], [gains[i] for i in front], ":", color="0.4", drawstyle="steps-post")
        for number, row in enumerate(rows):
            panel.plot(row[cost], row[figure], "o", label=row["name"], color=f"C{number % 10}")
        panel.set(xscale="log", xlabel=title)
        panel.grid(alpha=0.3)
    canvas.axes[0].set_ylabel(_TITLES.get(figure, figure))
    handles, labels = canvas.axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7, frameon=False)


def _folds(canvas: Any, data: dict[str, Any], figure: str) -> None:
    values: dict[str, list[float]] = {}
    for row in _runs(data):
        found = [fold[figure] for fold in data["runs"][row["id"]]["folds"] if fold.get(figure) is not None]
        values.setdefault(row["name"], []).extend(found)
    values = {name: found for name, found in values.items() if found}
    if not values:
        raise InputError(f"no run has a {figure}: choose another figure")
    canvas.set_size_inches(8, 1.6 + 0.42 * len(values))
    panel = canvas.subplots()
    positions = np.arange(len(values), 0, -1)
    panel.boxplot(list(values.values()), positions=positions, orientation="horizontal", widths=0.6, showfliers=False)
    for position, found in zip(positions, values.values(), strict=True):
        panel.plot(found, position + np.linspace(-0.15, 0.15, len(found)), ".", alpha=0.6)
    panel.set(
        yticks=positions, yticklabels=list(values), xlabel=f"{_TITLES.get(figure, figure)}, every fold and category"
    )
    panel.grid(axis="x", alpha=0.3)


def _histogram(canvas: Any, data: dict[str, Any], figure: str) -> None:
    runs = _runs(data)
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    canvas.set_size_inches(max(5.0, 3.6 * columns), max(3.6, 2.6 * rows))
    panels = canvas.subplots(rows, columns, squeeze=False).ravel()
    for panel, row in zip(panels, runs, strict=False):
        run = data["runs"][row["id"]]
        bins = np.linspace(min(run["normal"] + run["anomalous"]), max(run["normal"] + run["anomalous"]), 21)
        panel.hist(run["normal"], bins, alpha=0.65, label="normal", color="C2")
        panel.hist(run["anomalous"], bins, alpha=0.65, label="anomalous", color="C3")
        if row["threshold"] is not None:
            panel.axvline(row["threshold"], color="k", label="threshold")
        panel.set_title(f"{row['category']}\n{row['name']}", fontsize=7)
        panel.tick_params(labelsize=7)
    for panel in panels[len(runs) :]:
        panel.set_visible(False)
    panels[0].legend(fontsize=7, frameon=False)
    canvas.supxlabel("score of an image")


KINDS: dict[str, Callable[[Any, dict[str, Any], str], None]] = {
    "roc": _roc,
    "pr": _pr,
    "pareto": _pareto,
    "folds": _folds,
    "histogram": _histogram,
}
"""Kinds of plots, and what draws each."""
