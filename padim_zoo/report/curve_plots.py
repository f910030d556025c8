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
from padim_zoo.report.plot_style import WIDTH, grid_of, in_lines, lines, short_names

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

    @property
    def corner(self) -> str:
        """The corner that such curves leave free."""
        return "lower right" if self.rising else "lower left"


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


def from_the_origin(curve: np.ndarray) -> np.ndarray:
    """A curve over a false positive rate begins at (0, 0), however high it is at rate 0."""
    return np.insert(curve, 0, 0.0, axis=1)


def draw_curves(fig: Any, store: RunStore, rows: list[dict[str, Any]], name: str) -> None:
    """Draw one kind of curve of all runs.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    store : RunStore
    rows : list of dict
        Of the leaderboard: ``id``, ``name`` of the configuration, ``category`` and metrics; runs, no means.
    name : str
        A key of :data:`CURVES`.

    Raises
    ------
    InputError
        If no run has such a curve.
    """
    kind, metric = CURVES[name], area_below(name)
    drawn: list[Line] = []
    for row in rows:
        curve = run_curves(store.scores(row["id"])).get(name)
        if curve is not None:
            points = from_the_origin(curve) if kind.rising else curve
            drawn.append(Line(row["name"], row["category"], row[metric.name], points))
    if not drawn:
        raise InputError(f"{kind.missing}: there is no {kind.y} to draw")
    names = short_names([line.name for line in drawn])
    small = len(names) > _MOST_LARGE
    columns, height = (2, 2) if len(names) == 4 else grid_of(len(names), 5 if small else 3)
    width = WIDTH if columns > 1 else WIDTH / 2
    titles = {of: in_lines(short, 20) if small else short for of, short in names.items()}
    more_lines = max(title.count("\n") for title in titles.values())
    below = 0.25 + (_LINE * -(-(len({line.category for line in drawn}) + 1) // 6) if small else 0)
    tall = (width / columns) * (0.8 if columns == 2 else 0.98) + _LINE * more_lines
    fig.set_size_inches(width, height * tall + below)
    axes = fig.subplots(height, columns, squeeze=False, sharex=True, sharey=True).ravel()
    categories = list(dict.fromkeys(line.category for line in drawn))
    styles = dict(zip(categories, lines(len(categories)), strict=True))
    draw = _draw_small if small else _draw_with_legend
    for ax, (of, title) in zip(axes, titles.items(), strict=False):
        draw(ax, [line for line in drawn if line.name == of], kind, metric, styles)
        ax.set_title(title)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    end = max(float(line.points[0, -1]) for line in drawn)
    axes[0].set(xlim=(0, end), ylim=(0, 1.005))
    if small:
        labeled = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
        fig.legend(labeled.values(), labeled.keys(), loc="outside upper center", ncols=min(6, len(labeled)))
    fig.supxlabel(kind.x, fontsize=7)
    fig.supylabel(kind.y, fontsize=7)


def _draw_with_legend(ax: Any, drawn: Sequence[Line], kind: Kind, metric: Metric, styles: LineStyles) -> None:
    """The curves of a configuration, and a legend with their metric."""
    named = len(styles) <= _MOST_NAMED
    values = [line.value for line in drawn if line.value is not None]
    mean = f"mean  {_mean_text(values)}"
    if not named and values:
        mean += f"  ({len(drawn)} from {min(values):.3f} to {max(values):.3f})"
    labels = [f"{line.category}  {_mean_text([line.value])}" if named else None for line in drawn]
    _draw(ax, drawn, kind, styles, labels, mean, 1.8)
    size = 6 if len(drawn) <= 8 else 5
    ax.legend(loc=kind.corner, title=metric.title, fontsize=size, title_fontsize=size, alignment="left")


def _draw_small(ax: Any, drawn: Sequence[Line], kind: Kind, metric: Metric, styles: LineStyles) -> None:
    """The curves of one of many configurations, of whose metric there is room for the mean."""
    named = len(styles) <= _MOST_NAMED
    _draw(ax, drawn, kind, styles, [line.category if named else None for line in drawn], "mean", 1.3)
    place: Any = {"x": 0.96 if kind.rising else 0.04, "y": 0.05, "ha": "right" if kind.rising else "left"}
    text = f"{metric.title}\n{_mean_text([line.value for line in drawn if line.value is not None])}"
    ax.text(**place, s=text, va="bottom", fontsize=6, linespacing=1.3, transform=ax.transAxes)


def _draw(
    ax: Any,
    drawn: Sequence[Line],
    kind: Kind,
    styles: LineStyles,
    labels: Sequence[str | None],
    mean_label: str,
    width: float,
) -> None:
    """A line for each category, under its label where it has one, and their mean."""
    for line, label in zip(drawn, labels, strict=True):
        look = {"color": "#b8b8b8"} if label is None else styles[line.category]
        ax.plot(*line.points, label=label, linewidth=0.8, **look)
    if len(drawn) > 1:
        ax.plot(*mean_curve([line.points for line in drawn]), color="black", linewidth=width, label=mean_label)
    if kind is CURVES["roc"]:
        ax.plot([0, 1], [0, 1], color="#a0a0a0", linewidth=0.6, linestyle=(0, (2, 2)))


def _mean_text(values: Sequence[float | None]) -> str:
    defined = [value for value in values if value is not None]
    return f"{np.mean(defined):.3f}" if defined else "–"
