"""Plots of the leaderboard's metrics: Pareto fronts, spread over folds, histograms, learning curves, a heat table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from padim_zoo.bench.leaderboard import MEAN
from padim_zoo.bench.store import RunStore
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.metric import METRICS, title_of
from padim_zoo.pictures.colormap import OWN, color_table, to_oklab
from padim_zoo.report.plot_style import CLASSES, MARKERS, WIDTH, grid_of, in_lines, labeled, lines, mark, short_names

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


def _defined_alike(rows: Rows, metric: str) -> list[Rows]:
    """Rows whose values compare: apart where the setting differs that defines the metric."""
    defined_by = METRICS[metric].defined_by
    groups: dict[Any, Rows] = {}
    for row in rows:
        groups.setdefault(None if defined_by is None else row[defined_by], []).append(row)
    return list(groups.values())


def draw_pareto(fig: Any, store: RunStore, rows: Rows, metric: str) -> None:
    """A metric against latency and against size; filled points are those that no other beats in both."""
    compared = rivals(rows, metric)
    names = short_names([row["name"] for row in compared])
    fig.set_size_inches(WIDTH, 2.7 + _LINE * -(-len(names) // 3))
    axes = fig.subplots(1, 2, sharey=True)
    handles: dict[str, Any] = {}
    for ax, (cost, title) in zip(axes, _COSTS.items(), strict=True):
        measured = [row for row in compared if row[cost] is not None]
        costs = [row[cost] for row in measured]
        for group in _defined_alike(measured, metric):
            front = pareto_front([row[cost] for row in group], [METRICS[metric].sign * row[metric] for row in group])
            corners = [(group[number][cost], group[number][metric]) for number in front]
            ax.plot(*np.reshape(corners, (-1, 2)).T, color="#909090", linewidth=0.8, drawstyle="steps-post")
            for number, row in enumerate(group):
                look = mark(list(names).index(row["name"]))
                fill = look["color"] if number in front else "white"
                [handle] = ax.plot(row[cost], row[metric], **look, markerfacecolor=fill, markersize=5)
                if number in front or row["name"] not in handles:
                    handles[row["name"]] = handle
        if costs and min(costs) > 0:
            _scale_by_logarithm(ax, costs)
        ax.set_xlabel(title)
    axes[0].set_ylabel(f"{title_of(metric)}{', mean of categories' if any(row['mean'] for row in compared) else ''}")
    legend = {short: handles[name] for name, short in names.items() if name in handles}
    fig.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=3)


def _scale_by_logarithm(ax: Any, values: Sequence[float]) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, as numbers, enough of them within narrow ranges too."""
    from matplotlib.ticker import LogLocator

    low, high = min(values), max(values)
    ax.set(xscale="log", xlim=(low / 1.6, high * 1.6))
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if high / low > 30 else (1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()


def draw_folds(fig: Any, store: RunStore, rows: Rows, metric: str) -> None:
    """Every fold of every category as a point, and the mean of each configuration."""
    compared = rivals(rows, metric)
    names = short_names([row["name"] for row in compared])
    runs = [row for row in rows if not row["mean"] and row["name"] in names]
    categories = list(dict.fromkeys(row["category"] for row in runs))
    fig.set_size_inches(WIDTH, 0.75 + 0.27 * len(names) + _LINE * -(-len(categories) // 6))
    ax = fig.subplots()
    heights = {name: len(names) - number for number, name in enumerate(names)}
    for row in runs:
        values = [fold[metric] for fold in row["folds"] if fold.get(metric) is not None]
        number = categories.index(row["category"])
        height = heights[row["name"]] + 0.28 * (number / max(1, len(categories) - 1) - 0.5)
        look = {**mark(number), "markersize": 3, "alpha": 0.85, "markeredgewidth": 0}
        ax.plot(values, [height] * len(values), **look, label=row["category"])
    for row in compared:
        ax.plot(row[metric], heights[row["name"]], "|", color="black", markersize=13, markeredgewidth=1.6, label="mean")
    legend = labeled([ax])
    fig.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=6)
    ax.set(yticks=list(heights.values()), yticklabels=list(names.values()), xlabel=f"{title_of(metric)} of each fold")
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
    titles = [in_lines(short, 24 if columns < 5 else 20) for short in names.values()]
    numbers_titles = max(title.count("\n") + 1 for title in titles)
    tall = 1.05 if blocks == 1 else 0.85
    height = 0.6 + blocks * (tall * len(categories) + (0.11 * numbers_titles if blocks > 1 else 0))
    fig.set_size_inches(max(WIDTH / 2, min(WIDTH, 2.3 * columns)), height)
    axes = fig.subplots(blocks * len(categories), columns, squeeze=False)
    for ax in axes.flat:
        ax.set_visible(False)
    axes = axes.reshape(blocks, len(categories), columns)
    threshold = None
    for row in runs:
        block, column = divmod(list(names).index(row["name"]), columns)
        ax = axes[block, categories.index(row["category"]), column]
        ax.set_visible(True)
        arrays = store.scores(row["id"])
        labels, scores = arrays["labels"], arrays["scores"].mean(0)
        edges = np.linspace(scores.min(), scores.max() or 1.0, 21) if np.ptp(scores) else 20
        for label, (name, color) in enumerate(CLASSES.items()):
            ax.hist(scores[labels == label], edges, color=color, alpha=0.6, label=name)
        if row["threshold"] is not None:
            threshold = ax.axvline(row["threshold"], color="black", linewidth=1, linestyle=(0, (3, 1.5)))
        ax.grid(axis="x", visible=False)
        ax.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    for number, title in enumerate(titles):
        block, column = divmod(number, columns)
        next(ax for ax in axes[block, :, column] if ax.get_visible()).set_title(title)
    for block_of_axes in axes:
        for ax, category in zip(block_of_axes[:, 0], categories, strict=True):
            ax.set_ylabel(category)
    legend = labeled(axes.flat)
    if threshold is not None:
        legend["threshold, from normal images"] = threshold
    fig.legend(legend.values(), legend.keys(), loc="outside upper center", ncols=3)
    folded = " (mean of the folds)" if any(len(row["folds"]) > 1 for row in runs) else ""
    fig.supxlabel(f"anomaly score of a test image{folded}", fontsize=7)
    fig.supylabel("images", fontsize=7)


def draw_learning_curve(fig: Any, store: RunStore, rows: Rows, metric: str) -> None:
    """A metric against the number of normal images, a line per configuration; bars are ±1 standard deviation."""
    points: dict[str, list[tuple[float, float, float]]] = {}
    for row in rivals(rows, metric):
        runs = [run for run in rows if run["name"] == row["name"] and not run["mean"]]
        sizes = [run["n_train"] for run in runs if run["n_train"] is not None]
        if sizes:
            points.setdefault(row["curve"], []).append((np.mean(sizes), row[metric], row[f"{metric}_std"] or 0.0))
    curves = {name: np.array(sorted(of_sizes)).T for name, of_sizes in points.items() if len(of_sizes) > 1}
    if not curves:
        raise InputError("no configuration has runs on several numbers of images: use bench --train-sizes 5,10,all")
    names = short_names(list(curves))
    columns = 2 if max(map(len, names.values())) <= 18 else 1
    fig.set_size_inches(WIDTH / 2, 2.4 + _LINE * -(-len(names) // columns))
    ax = fig.subplots()
    for number, (look, (name, curve)) in enumerate(zip(lines(len(curves)), curves.items(), strict=True)):
        look |= {"marker": MARKERS[number % len(MARKERS)], "markersize": 3, "capsize": 1.5, "elinewidth": 0.7}
        ax.errorbar(*curve, label=names[name], **look)
    ax.set(xlabel="normal images to learn from", ylabel=title_of(metric))
    fig.legend(loc="outside lower center", ncols=columns)


def draw_heat_table(fig: Any, store: RunStore, rows: Rows, metric: str) -> None:
    """A table of configurations and categories, colored by the metric; the best of each column is bold."""
    from matplotlib.colors import ListedColormap

    compared = rivals(rows, metric)
    names = short_names([row["name"] for row in compared])
    runs = [row for row in rows if row["name"] in names]
    categories = list(dict.fromkeys(row["category"] for row in runs if not row["mean"]))
    several = any(row["mean"] for row in runs)
    columns = [*((False, category) for category in categories), *[(True, MEAN)] * several]
    means = pd.DataFrame(runs).pivot_table(metric, "name", ["mean", "category"])  # over seeds
    table = means.reindex(index=list(names), columns=pd.MultiIndex.from_tuples(columns)).to_numpy()
    fig.set_size_inches(max(WIDTH / 2, min(WIDTH, 1.6 + 0.5 * len(columns))), 0.9 + 0.24 * len(names))
    ax = fig.subplots()
    low, high = min(0.9, np.floor(10 * np.nanmin(table)) / 10), max(1.0, np.nanmax(table))
    colors = color_table(OWN)
    colormap = ListedColormap(colors / 255.0).with_extremes(bad="#f0f0f0")
    ax.imshow(table, cmap=colormap, vmin=low, vmax=high, aspect="auto")
    best = np.full(table.shape, np.nan)
    for group in _defined_alike(compared, metric):
        numbers = list({list(names).index(row["name"]) for row in group})
        if len(numbers) > 1:
            best[numbers] = (np.fmax if METRICS[metric].better == "high" else np.fmin).reduce(table[numbers])
    shades = to_oklab(colors)[:, 0]
    for (line, column), value in np.ndenumerate(table):
        text, color, weight = "–", "#707070", "normal"
        if not np.isnan(value):
            dark = shades[int(255 * min(max((value - low) / (high - low), 0), 1))] < 0.6
            text, color = f"{value:.3f}", "white" if dark else "black"
            weight = "bold" if value == best[line, column] else "normal"
        ax.text(column, line, text, ha="center", va="center", color=color, fontweight=weight, fontsize=6)
    if several and categories:
        ax.axvline(len(categories) - 0.5, color="white", linewidth=2.5)
    headings = [category for _, category in columns]
    slanted = {"rotation": 45, "rotation_mode": "anchor", "ha": "right"} if max(map(len, headings)) > 7 else {}
    ax.set_xticks(range(len(columns)), headings, **slanted)
    ax.set_yticks(range(len(names)), list(names.values()))
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_title(title_of(metric))  # and no color bar: the numbers are there
