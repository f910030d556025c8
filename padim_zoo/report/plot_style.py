"""What all plots share: text that stays text, colors that everybody can tell apart, sizes of a printed page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice, product
from pathlib import Path
from textwrap import wrap
from typing import Any

from padim_zoo.core.atomic_write import write_whole
from padim_zoo.core.errors import InputError, needs_extra

WIDTH = 7.0
"""Of a page's text, in inches; a column is half of it. Text of 7 points is read at either without a lens."""

# Okabe and Ito, "Color Universal Design" (2008), without yellow, which is hard to see on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
CLASSES = {"normal": PALETTE[0], "anomalous": PALETTE[1]}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))

STYLE: Any = {
    "font.size": 7,
    "font.family": "sans-serif",
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "legend.fontsize": 6,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.25,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    # Letters as letters of an embedded font, not as outlines: journals ask for it, and one can search for them.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    # The same run store gives the same bytes.
    "svg.hashsalt": "padim-zoo",
}
"""Settings of matplotlib."""


SUFFIXES = (".pdf", ".png", ".svg")
_DPI = 300
_UNDATED = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {}}
"""The same run store gives the same bytes."""


@contextmanager
def figure_file(output: Path) -> Iterator[Any]:
    """A figure in the style of all plots, which is written when it has been drawn.

    Raises
    ------
    InputError
        If the suffix is unknown, or matplotlib is not installed.
    """
    if output.suffix not in SUFFIXES:
        raise InputError(f"{output} ends in {output.suffix or 'nothing'}: expected {', '.join(SUFFIXES)}")
    if output.is_dir():
        raise InputError(f"{output} is a folder: expected the name of a file")
    with needs_extra("report", "a plot"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    with rc_context(STYLE):
        # A Figure of its own, and not pyplot's: that would need, or choose, a screen.
        fig: Any = Figure(layout="constrained")
        yield fig
        write_whole(output, partial(fig.savefig, format=output.suffix[1:], dpi=_DPI, metadata=_UNDATED[output.suffix]))


def lines(count: int) -> list[dict[str, Any]]:
    """A look for each of so many lines: all colors solid, then dashed, and so on; black is left for their mean."""
    styles = cycle(product(_DASHES, PALETTE[:-1]))
    return [{"color": color, "linestyle": dash} for dash, color in islice(styles, count)]


def mark(number: int) -> dict[str, Any]:
    """A look for the points of one of many: all colors as circles, then as squares, and so on."""
    shape, color = divmod(number, len(PALETTE))
    return {"color": PALETTE[color], "marker": MARKERS[shape % len(MARKERS)], "linestyle": "none"}


def labeled(axes: Iterable[Any]) -> dict[str, Any]:
    """What a legend of several plots shows: each label once."""
    return {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}


def grid_of(count: int, most: int) -> tuple[int, int]:
    """Columns, at most so many, and rows for so many plots, the last row as full as can be."""
    rows = -(-count // most)
    return -(-count // rows), rows


def in_lines(name: str, width: int) -> str:
    """The name of a configuration in lines of so many letters, broken between its parts where that is enough."""
    lines: list[str] = []
    for part in name.split(" · "):
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += wrap(part, width, break_on_hyphens=False)
    return "\n".join(lines)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names of configurations without the parts that all of them share; nothing is left out where there is only one.

    Parameters
    ----------
    names : sequence of str
        Parts are joined by a middle dot between spaces.
    """
    distinct = list(dict.fromkeys(names))
    parts = {name: name.split(" · ") for name in distinct}
    shared = set.intersection(*map(set, parts.values())) if len(distinct) > 1 else set()
    return {name: " · ".join(part for part in parts[name] if part not in shared) or name for name in distinct}
