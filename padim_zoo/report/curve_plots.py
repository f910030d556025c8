"""Curves of all categories in one picture: a plot per configuration, a line per category, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from padim_zoo.bench.store import RunStore
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.curves import mean_curve
from padim_zoo.metrics.metric import METRICS, Metric
from padim_zoo.report.page import run_curves
from padim_zoo.report.plot_style import WIDTH, grid_of, in_lines, labeled, lines, short_names

_MOST_NAMED = 16
"""Categories that a legend names; of more, all lines are gray and the legend tells their range."""

_MOST_LARGE = 9
"""Configurations whose plots have room for a legend; of more, one legend serves all plots, and these are small."""

_LINE = 0.14
"""Height of a line of text with its space, in inches."""


@dataclass(frozen=True)
class Kind:
    """A kind of curve.

    Attributes
    ----------
    x, y : str
        Labels of the axes.
    rising : bool
        Whether it is over a false positive rate, begins at the origin and leaves the lower right corner free.
    missing : str
        Why a run may have no curve.
    """

    x: str
    y: str
    rising: bool
    missing: str


_ONE_KIND = "no run has both normal and anomalous test images"
_NO_PIXELS = "no run keeps curves of its pixels (it has no masks or no maps, or is of an older version: run it again)"

CURVES: dict[str, Kind] = {
    "roc": Kind("false positive rate", "true positive rate", True, _ONE_KIND),
    "pr": Kind("recall", "precision", False, _ONE_KIND),
    "pro": Kind("false positive rate of pixels", "per-region overlap", True, _NO_PIXELS),
    "pixel_roc": Kind("false positive rate of pixels", "true positive rate of pixels", True, _NO_PIXELS),
    "pixel_pr": Kind("recall of pixels", "precision of pixels", False, _NO_PIXELS),
}
"""The curves of :mod:`padim_zoo.metrics.curves`."""


class Line(NamedTuple):
    """The curve of a run: of which configuration and category, the area below it, and its points (2, n)."""

    name: str
    category: str
    value: float | None
    points: np.ndarray


LineStyles = dict[str, dict[str, Any]]


def area_below(curve: str) -> Metric:
    """The metric that is the area below a curve."""
    return next(metric for metric in METRICS.values() if metric.curve == curve)


def draw_curves(fig: Any, store: RunStore, rows: list[dict[str, Any]], metric: str, *, curve: str) -> None:
    """Draw one kind of curve of all runs.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    store : RunStore
    rows : list of dict
        Of :func:`padim_zoo.report.page.report_data`; means are left out.
    metric : str
        What other plots show; here it is the area below the curve.
    curve : str
        A key of :data:`CURVES`.

    Raises
    ------
    InputError
        If no run has such a curve.
    """
    kind, area = CURVES[curve], area_below(curve)
    drawn: list[Line] = []
    for row in (row for row in rows if not row["mean"]):
        points = run_curves(store.scores(row["id"])).get(curve)
        if points is not None:
            # Over a false positive rate it begins at (0, 0), however high it is at rate 0.
            points = np.insert(points, 0, 0.0, axis=1) if kind.rising else points
            drawn.append(Line(row["run_name"], row["category"], row[area.name], points))
    if not drawn:
        raise InputError(f"{kind.missing}: there is no {kind.y} to draw")
    names = short_names([line.name for line in drawn])
    small = len(names) > _MOST_LARGE
    columns, height = (2, 2) if len(names) == 4 else grid_of(len(names), 5 if small else 3)
    width = WIDTH if columns > 1 else WIDTH / 2
    titles = {name: in_lines(short, 20) if small else short for name, short in names.items()}
    more_lines = max(title.count("\n") for title in titles.values())
    below = 0.25 + (_LINE * -(-(len({line.category for line in drawn}) + 1) // 6) if small else 0)
    tall = (width / columns) * (0.8 if columns == 2 else 0.98) + _LINE * more_lines
    fig.set_size_inches(width, height * tall + below)
    axes = fig.subplots(height, columns, squeeze=False, sharex=True, sharey=True).ravel()
    categories = list(dict.fromkeys(line.category for line in drawn))
    styles = dict(zip(categories, lines(len(categories)), strict=True))
    for ax, (name, title) in zip(axes, titles.items(), strict=False):
        _draw(ax, [line for line in drawn if line.name == name], kind, area, styles, small=small)
        ax.set_title(title)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    end = max(float(line.points[0, -1]) for line in drawn)
    axes[0].set(xlim=(0, end), ylim=(0, 1.005))
    if small:
        legend = labeled(axes)
        fig.legend(legend.values(), legend.keys(), loc="outside upper center", ncols=min(6, len(legend)))
    fig.supxlabel(kind.x, fontsize=7)
    fig.supylabel(kind.y, fontsize=7)


def _draw(ax: Any, drawn: Sequence[Line], kind: Kind, metric: Metric, styles: LineStyles, *, small: bool) -> None:
    """The curves of a configuration, a line for each category and their mean, with their metric.

    It stands in a legend; a small plot has room for its mean only.
    """
    named = len(styles) <= _MOST_NAMED
    values = [line.value for line in drawn if line.value is not None]
    mean = f"{np.mean(values):.3f}" if values else "–"
    for line in drawn:
        value = "–" if line.value is None else f"{line.value:.3f}"
        label = line.category if small else f"{line.category}  {value}"
        look = styles[line.category] if named else {"color": "#b8b8b8"}
        ax.plot(*line.points, label=label if named else None, linewidth=0.8, **look)
    if len(drawn) > 1:
        spread = "" if named or not values else f"  ({len(drawn)} from {min(values):.3f} to {max(values):.3f})"
        label, width = ("mean", 1.3) if small else (f"mean  {mean}{spread}", 1.8)
        ax.plot(*mean_curve([line.points for line in drawn]), color="black", linewidth=width, label=label)
    if kind is CURVES["roc"]:
        ax.plot([0, 1], [0, 1], color="#a0a0a0", linewidth=0.6, linestyle=(0, (2, 2)))
    if small:
        place: Any = {"x": 0.96 if kind.rising else 0.04, "y": 0.05, "ha": "right" if kind.rising else "left"}
        text = f"{metric.title}\n{mean}"
        ax.text(**place, s=text, va="bottom", fontsize=6, linespacing=1.3, transform=ax.transAxes)
    else:
        size, corner = 6 if len(drawn) <= 8 else 5, "lower right" if kind.rising else "lower left"
        ax.legend(loc=corner, title=metric.title, fontsize=size, title_fontsize=size, alignment="left")
