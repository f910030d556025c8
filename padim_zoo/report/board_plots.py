"""Plots of the leaderboard's metrics: Pareto fronts, spread over folds, histograms, learning curves, a heat table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from padim_zoo.bench.store import RunStore
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.metric import METRICS, title_of
from padim_zoo.pictures.colormap import OWN, color_table, to_oklab
from padim_zoo.report.plot_style import (
    ANOMALOUS,
    MARKERS,
    NORMAL,
    PALETTE,
    WIDTH,
    grid_of,
    in_lines,
    lines,
    short_names,
)

_COSTS = {"ms_per_image_b1": "time per image, batch 1 (ms)", "model_mb": "model size (MB)"}
_LINE = 0.19
"""Height of a line of text with its space, in inches."""

Rows = list[dict[str, Any]]


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices of the points than which no other costs as little and gains more, by cost."""
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda index: (costs[index], -gains[index])):
        if not front or gains[index] > gains[front[-1]] + 1e-9:  # means that differ in rounding are one
            front.append(index)
    return front


def rivals(rows: Rows, metric: str) -> Rows:
    """One row for each configuration and dataset that has the metric: its mean row, or its only run.

    Raises
    ------
    InputError
        If there is none.
    """
    averaged = {row["name"] for row in rows if row["mean"]}
    compared = [row for row in rows if (row["mean"] or row["name"] not in averaged) and row[metric] is not None]
    if not compared:
        raise InputError(f"no run has a {metric}: choose another metric")
    return compared


def draw_pareto(fig: Any, store: RunStore, rows: Rows, metric: str) -> None:
    """A metric against latency and against size; filled points are those that no other beats in both."""
    compared = rivals(rows, metric)
    names = short_names([row["name"] for row in compared])
    fig.set_size_inches(WIDTH, 2.7 + _LINE * -(-len(names) // 3))
    axes = fig.subplots(1, 2, sharey=True)
    handles: dict[str, Any] = {}
    for ax, (cost, title) in zip(axes, _COSTS.items(), strict=True):
        measured = [row for row in compared if row[cost] is not None]
        costs, values = [row[cost] for row in measured], [row[metric] for row in measured]
        front = pareto_front(costs, [METRICS[metric].sign * value for value in values])
        ax.plot(
            [costs[i] for i in front],
            [values[i] for i in front],
            color="#909090",
            linewidth=0.8,
            drawstyle="steps-post",
        )
        for number, row in enumerate(measured):
            place = list(names).index(row["name"])
            color, marker = PALETTE[place % len(PALETTE)], MARKERS[place // len(PALETTE) % len(MARKERS)]
            [handle] = ax.plot(
                row[cost],
                row[metric],
                marker,
                color=color,
                markerfacecolor=color if number in front else "white",
                markersize=5,
                linestyle="none",
                label=names[row["name"]],
            )
            if number in front or row["name"] not in handles:
                handles[row["name"]] = handle
        if costs and min(costs) > 0:
            ax.set_xscale("log")
            _plain_ticks(ax, costs)
        ax.set_xlabel(title)
    axes[0].set_ylabel(f"{title_of(metric)}{', mean of categories' if any(row['mean'] for row in compared) else ''}")
    fig.legend(
        [handles[name] for name in names if name in handles],
        [names[name] for name in names if name in handles],
        loc="outside lower center",
        ncols=3,
    )


def _plain_ticks(ax: Any, values: Sequence[float]) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, as numbers, enough of them within narrow ranges too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    wide = max(values) / min(values) > 30
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    low, high = min(values), max(values)
    ax.set_xlim(low / 1.6, high * 1.6)


def draw_folds(fig: Any, store: RunStore, rows: Rows, metric: str) -> None:
    """Every fold of every category as a point, and the mean of each configuration."""
    compared = rivals(rows, metric)
    names = short_names([row["name"] for row in compared])
    runs = [row for row in rows if not row["mean"] and row["name"] in names]
    categories = list(dict.fromkeys(row["category"] for row in runs))
    fig.set_size_inches(WIDTH, 0.75 + 0.27 * len(names) + _LINE * -(-len(categories) // 6))
    ax = fig.subplots()
    styles = {category: PALETTE[number % len(PALETTE)] for number, category in enumerate(categories)}
    marks = {category: MARKERS[number // len(PALETTE) % len(MARKERS)] for number, category in enumerate(categories)}
    places = {name: len(names) - number for number, name in enumerate(names)}
    for row in runs:
        values = [fold[metric] for fold in row["folds"] if fold.get(metric) is not None]
        offset = 0.28 * (categories.index(row["category"]) / max(1, len(categories) - 1) - 0.5)
        ax.plot(
            values,
            [places[row["name"]] + offset] * len(values),
            marks[row["category"]],
            color=styles[row["category"]],
            markersize=3,
            alpha=0.85,
            markeredgewidth=0,
            linestyle="none",
            label=row["category"],
        )
    for row in compared:
        ax.plot(row[metric], places[row["name"]], "|", color="black", markersize=13, markeredgewidth=1.6, label="mean")
    handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6)
    ax.set(yticks=list(places.values()), yticklabels=list(names.values()), xlabel=f"{title_of(metric)} of each fold")
    ax.set_ylim(0.4, len(names) + 0.6)
    ax.grid(axis="y", visible=False)


def draw_histogram(fig: Any, store: RunStore, rows: Rows, metric: str) -> None:
    """Scores of normal and anomalous test images and the threshold: a row of plots per category.

    More than five configurations go below each other, five at a time.
    """
    runs = [{**row, "name": row["run_name"]} for row in rows if not row["mean"]]
    if not runs:
        raise InputError("no run is done: there are no scores to draw")
    names = short_names([row["name"] for row in runs])
    categories = list(dict.fromkeys(row["category"] for row in runs))
    columns, blocks = grid_of(len(names), 5)
    titles = {name: in_lines(short, 24 if columns < 5 else 20) for name, short in names.items()}
    lines_of_titles = max(title.count("\n") + 1 for title in titles.values())
    tall = 1.05 if blocks == 1 else 0.85
    height = 0.6 + blocks * (tall * len(categories) + (0.11 * lines_of_titles if blocks > 1 else 0))
    fig.set_size_inches(max(WIDTH / 2, min(WIDTH, 2.3 * columns)), height)
    axes = fig.subplots(blocks * len(categories), columns, squeeze=False)
    places = {name: divmod(number, columns) for number, name in enumerate(names)}
    for ax in axes.ravel():
        ax.set_visible(False)
    threshold = None
    for row in runs:
        block, column = places[row["name"]]
        ax = axes[block * len(categories) + categories.index(row["category"]), column]
        ax.set_visible(True)
        arrays = store.scores(row["id"])
        labels, scores = arrays["labels"], arrays["scores"].mean(0)
        edges = np.linspace(scores.min(), scores.max() or 1.0, 21) if np.ptp(scores) else 20
        for label, color, name in ((0, NORMAL, "normal"), (1, ANOMALOUS, "anomalous")):
            ax.hist(scores[labels == label], edges, color=color, alpha=0.6, label=name)
        if row["threshold"] is not None:
            threshold = ax.axvline(row["threshold"], color="black", linewidth=1, linestyle=(0, (3, 1.5)))
        ax.grid(axis="x", visible=False)
        ax.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    for name, (block, column) in places.items():
        rows_of_block = axes[block * len(categories) : (block + 1) * len(categories)]
        top = next((ax for ax in rows_of_block[:, column] if ax.get_visible()), None)
        if top is not None:
            top.set_title(titles[name])
        for ax, category in zip(rows_of_block[:, 0], categories, strict=True):
            ax.set_ylabel(category)
    filled = next(ax for ax in axes.ravel() if ax.get_visible())
    handles, labels_ = filled.get_legend_handles_labels()
    if threshold is not None:
        handles, labels_ = [*handles, threshold], [*labels_, "threshold, from normal images"]
    fig.legend(handles, labels_, loc="outside upper center", ncols=3)
    folded = " (mean of the folds)" if any(len(row["folds"]) > 1 for row in runs) else ""
    fig.supxlabel(f"anomaly score of a test image{folded}", fontsize=7)
    fig.supylabel("images", fontsize=7)


def draw_learning_curve(fig: Any, store: RunStore, rows: Rows, metric: str) -> None:
    """A metric against the number of normal images, a line per configuration; bars are ±1 standard deviation."""
    compared = rivals(rows, metric)
    images: dict[str, list[int]] = {}
    for row in rows:
        if not row["mean"] and row["n_train"] is not None:
            images.setdefault(row["name"], []).append(row["n_train"])
    points: dict[str, list[tuple[float, float, float]]] = {}
    for row in compared:
        if row["name"] in images:
            deviation = row[f"{metric}_std"] or 0.0
            points.setdefault(row["curve"], []).append((float(np.mean(images[row["name"]])), row[metric], deviation))
    lines_of = {name: sorted(line) for name, line in points.items() if len(line) > 1}
    if not lines_of:
        raise InputError(
            "no configuration has runs on several numbers of images: padim-zoo bench --train-sizes 5,10,all"
        )
    names = short_names(list(lines_of))
    columns = 2 if max(map(len, names.values())) <= 18 else 1
    fig.set_size_inches(WIDTH / 2, 2.4 + _LINE * -(-len(names) // columns))
    ax = fig.subplots()
    looks = zip(lines(len(lines_of)), MARKERS * len(lines_of), strict=False)
    for (name, line), (look, marker) in zip(lines_of.items(), looks, strict=False):
        sizes, values, deviations = np.array(line).T
        ax.errorbar(
            sizes,
            values,
            deviations,
            label=names[name],
            marker=marker,
            markersize=3,
            capsize=1.5,
            elinewidth=0.7,
            **look,
        )
    ax.set(xlabel="normal images to learn from", ylabel=title_of(metric))
    fig.legend(loc="outside lower center", ncols=columns)


def draw_heat_table(fig: Any, store: RunStore, rows: Rows, metric: str) -> None:
    """A table of configurations and categories, colored by the metric; the best of each column is bold."""
    names = short_names([row["name"] for row in rivals(rows, metric)])
    runs = [row for row in rows if row["name"] in names]
    categories = list(dict.fromkeys(row["category"] for row in runs if not row["mean"]))
    several = any(row["mean"] for row in runs)
    table = np.full((len(names), len(categories) + several), np.nan)
    of_seeds: dict[tuple[int, int], list[float]] = {}
    for row in runs:
        column = len(categories) if row["mean"] else categories.index(row["category"])
        if row[metric] is not None:
            of_seeds.setdefault((list(names).index(row["name"]), column), []).append(row[metric])
    for place, values in of_seeds.items():
        table[place] = np.mean(values)
    columns = [*categories, *["mean"] * several]
    width = max(WIDTH / 2, min(WIDTH, 1.6 + 0.5 * len(columns)))
    fig.set_size_inches(width, 0.9 + 0.24 * len(names))
    ax = fig.subplots()
    low, high = min(0.9, np.floor(10 * np.nanmin(table)) / 10), max(1.0, np.nanmax(table))
    ax.imshow(table, cmap=_ember(), vmin=low, vmax=high, aspect="auto")
    best = (np.nanmax if METRICS[metric].better == "high" else np.nanmin)(table, axis=0)
    shades = to_oklab(color_table(OWN))[:, 0]
    for (line, column), value in np.ndenumerate(table):
        if np.isnan(value):
            ax.text(column, line, "–", ha="center", va="center", color="#707070")
            continue
        dark = shades[int(255 * min(max((value - low) / (high - low), 0), 1))] < 0.6
        weight = "bold" if value == best[column] and len(names) > 1 else "normal"
        color = "white" if dark else "black"
        ax.text(column, line, f"{value:.3f}", ha="center", va="center", color=color, fontweight=weight, fontsize=6)
    if several and categories:
        ax.axvline(len(categories) - 0.5, color="white", linewidth=2.5)
    ax.set_xticks(
        range(len(columns)), columns, rotation=45 if max(map(len, columns)) > 7 else 0, rotation_mode="anchor"
    )
    if max(map(len, columns)) > 7:
        for label in ax.get_xticklabels():
            label.set_ha("right")
    ax.set_yticks(range(len(names)), list(names.values()))
    ax.tick_params(length=0)
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(title_of(metric))  # and no color bar: the numbers are there


def _ember() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(color_table(OWN) / 255.0).with_extremes(bad="#f0f0f0")
