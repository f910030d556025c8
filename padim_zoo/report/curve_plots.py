"""Curves of all categories in one figure: a panel for each configuration, a line for each category, and their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from padim_zoo.bench.store import RunStore
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.ranking import Ranking, detection_curve, precision_curve, rank
from padim_zoo.report.plot_style import WIDTH, grid_of, in_lines, lines, short_names

_POINTS = 1001
_MOST_NAMED = 16
"""Categories that a legend names; of more, all lines are gray and the legend tells their range."""

_MOST_LARGE = 9
"""Configurations whose panels have room for a legend; of more, one legend serves all panels, and these are small."""

_LINE = 0.14
"""Height of a line of text with its space, in inches."""

Curve = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Kind:
    """A kind of curve.

    Attributes
    ----------
    figure : str
        The column of the leaderboard that is the area under it.
    title : str
        What the legend calls that figure.
    x, y : str
        Labels of the axes.
    of : callable
        Makes the curve of the arrays of a run; None where there is none.
    legend : str
        The corner that such curves leave free.
    missing : str
        Why a run may have no curve.
    """

    figure: str
    title: str
    x: str
    y: str
    of: Callable[[dict[str, np.ndarray]], Curve | None]
    legend: str
    missing: str


def mean_over_folds(arrays: dict[str, np.ndarray], curve: Callable[[Ranking, np.ndarray], np.ndarray]) -> Curve | None:
    """The vertical mean of the curves of all folds, so that the area below it is the mean of theirs.

    Parameters
    ----------
    arrays : dict
        ``labels`` (N,) and ``scores`` (folds, N).
    curve : callable
        Ordinates of a ranking at some abscissas in [0, 1].
    """
    anomalous = arrays["labels"] == 1
    if not anomalous.any() or anomalous.all():
        return None
    at = np.linspace(0, 1, _POINTS)
    return at, np.mean([curve(rank(scores[~anomalous], scores[anomalous]), at) for scores in arrays["scores"]], axis=0)


def from_the_origin(curve: Curve) -> Curve:
    """A curve over a false positive rate begins at (0, 0), however high it is at rate 0."""
    return np.append(0.0, curve[0]), np.append(0.0, curve[1])


def _kept(name: str) -> Callable[[dict[str, np.ndarray]], Curve | None]:
    def of(arrays: dict[str, np.ndarray]) -> Curve | None:
        return (arrays[name][0], arrays[name][1]) if name in arrays else None

    return of


_ONE_KIND = "no run has both normal and anomalous test images"
_NO_PIXELS = "no run keeps curves of its pixels (it has no masks or no maps, or is of an older version: run it again)"

CURVES: dict[str, Kind] = {
    "roc": Kind(
        "image_auroc",
        "AUROC",
        "false positive rate",
        "true positive rate",
        lambda arrays: mean_over_folds(arrays, detection_curve),
        "lower right",
        _ONE_KIND,
    ),
    "pr": Kind(
        "image_ap",
        "AP",
        "recall",
        "precision",
        lambda arrays: mean_over_folds(arrays, precision_curve),
        "lower left",
        _ONE_KIND,
    ),
    "pro": Kind(
        "aupro",
        "AUPRO",
        "false positive rate of pixels",
        "per-region overlap",
        _kept("pro_curve"),
        "lower right",
        _NO_PIXELS,
    ),
    "pixel-roc": Kind(
        "pixel_auroc",
        "pixel AUROC",
        "false positive rate of pixels",
        "true positive rate of pixels",
        _kept("pixel_roc_curve"),
        "lower right",
        _NO_PIXELS,
    ),
    "pixel-pr": Kind(
        "pixel_ap",
        "pixel AP",
        "recall of pixels",
        "precision of pixels",
        _kept("pixel_pr_curve"),
        "lower left",
        _NO_PIXELS,
    ),
}


def draw_curves(canvas: Any, store: RunStore, rows: list[dict[str, Any]], kind: Kind) -> None:
    """Draw one kind of curve of all runs.

    Parameters
    ----------
    canvas : matplotlib.figure.Figure
    store : RunStore
    rows : list of dict
        Of the leaderboard: ``id``, ``name`` of the configuration, ``category`` and figures; runs, no means.
    kind : Kind

    Raises
    ------
    InputError
        If no run has such a curve.
    """
    found = [(row, curve) for row in rows if (curve := kind.of(store.scores(row["id"]))) is not None]
    if not found:
        raise InputError(f"{kind.missing}: there is no {kind.y} to draw")
    names = short_names([row["name"] for row, _ in found])
    small = len(names) > _MOST_LARGE
    columns, height = (2, 2) if len(names) == 4 else grid_of(len(names), 5 if small else 3)
    width = WIDTH if columns > 1 else WIDTH / 2
    titles = {name: in_lines(short, 20) if small else short for name, short in names.items()}
    more_lines = max(title.count("\n") for title in titles.values())
    below = 0.25 + (_LINE * -(-(len({row["category"] for row, _ in found}) + 1) // 6) if small else 0)
    tall = (width / columns) * (0.8 if columns == 2 else 0.98) + _LINE * more_lines
    canvas.set_size_inches(width, height * tall + below)
    panels = canvas.subplots(height, columns, squeeze=False, sharex=True, sharey=True).ravel()
    categories = list(dict.fromkeys(row["category"] for row, _ in found))
    styles = dict(zip(categories, lines(len(categories)), strict=True))
    draw = _small_panel if small else _panel
    for panel, (name, title) in zip(panels, titles.items(), strict=False):
        draw(panel, [pair for pair in found if pair[0]["name"] == name], kind, styles)
        panel.set_title(title)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    end = max(float(curve[0][-1]) for _, curve in found)
    panels[0].set(xlim=(0, end), ylim=(0, 1.005))
    if small:
        labeled = {
            text: handle for panel in panels for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        canvas.legend(labeled.values(), labeled.keys(), loc="outside upper center", ncols=min(6, len(labeled)))
    canvas.supxlabel(kind.x, fontsize=7)
    canvas.supylabel(kind.y, fontsize=7)


Found = list[tuple[dict[str, Any], Curve]]
LineStyles = dict[str, dict[str, Any]]


def _panel(panel: Any, found: Found, kind: Kind, styles: LineStyles) -> None:
    """The curves of a configuration, and a legend with their figures."""
    named = len(styles) <= _MOST_NAMED
    figures = [row[kind.figure] for row, _ in found if row[kind.figure] is not None]
    mean = f"mean  {_figure(float(np.mean(figures)) if figures else None)}"
    if not named and figures:
        mean += f"  ({len(found)} from {min(figures):.3f} to {max(figures):.3f})"
    names = [f"{row['category']}  {_figure(row[kind.figure])}" if named else None for row, _ in found]
    _draw(panel, found, kind, styles, names, mean, 1.8)
    size = 6 if len(found) <= 8 else 5
    panel.legend(loc=kind.legend, title=kind.title, fontsize=size, title_fontsize=size, alignment="left")


def _small_panel(panel: Any, found: Found, kind: Kind, styles: LineStyles) -> None:
    """The curves of one of many configurations, of whose figures there is room for the mean."""
    named = len(styles) <= _MOST_NAMED
    _draw(panel, found, kind, styles, [row["category"] if named else None for row, _ in found], "mean", 1.3)
    figures = [row[kind.figure] for row, _ in found if row[kind.figure] is not None]
    rising = kind.legend == "lower right"
    where: Any = {"x": 0.96 if rising else 0.04, "y": 0.05, "ha": "right" if rising else "left"}
    text = f"{kind.title}\n{_figure(float(np.mean(figures)) if figures else None)}"
    panel.text(**where, s=text, va="bottom", fontsize=6, linespacing=1.3, transform=panel.transAxes)


def _draw(
    panel: Any, found: Found, kind: Kind, styles: LineStyles, names: Sequence[str | None], mean_name: str, width: float
) -> None:
    """A line for each category, under its name where it has one, and their mean."""
    rising = kind.legend == "lower right"
    for (row, curve), name in zip(found, names, strict=True):
        x, y = from_the_origin(curve) if rising else curve
        look = {"color": "#b8b8b8"} if name is None else styles[row["category"]]
        panel.plot(x, y, label=name, linewidth=0.8, **look)
    if len(found) > 1:
        at = max((x for _, (x, _) in found), key=len)
        mean = np.mean([np.interp(at, x, y) for _, (x, y) in found], axis=0)
        curve = from_the_origin((at, mean)) if rising else (at, mean)
        panel.plot(*curve, color="black", linewidth=width, label=mean_name)
    if kind.y == "true positive rate":
        panel.plot([0, 1], [0, 1], color="#a0a0a0", linewidth=0.6, linestyle=(0, (2, 2)))


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
