"""Bars of a metric for a terminal: half a cell fine, on an axis that all rows share, with the interval as a whisker.

A progress line is such a bar, with words beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.text import Text

_STARTS = (0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.0)
_LEAST_SHARE = 0.1
"""Of the axis: no bar is shorter, so that the worst row has one too."""


@dataclass(frozen=True)
class Axis:
    """What the ends of all bars stand for.

    Attributes
    ----------
    start, end : float
        The values at the left and at the right end.
    """

    start: float
    end: float

    def position(self, value: float, width: int) -> float:
        """Where a value lies on a bar of so many cells, 0 to ``width``."""
        return width * min(max((value - self.start) / (self.end - self.start), 0.0), 1.0)

    def labels(self, width: int) -> str:
        """The values at both ends, as wide as a bar."""
        start, end = f"{self.start:g}", f"{self.end:.3g}"
        return start + end.rjust(width - len(start))


def metric_axis(values: Iterable[float], end: float = 1.0) -> Axis:
    """An axis for metrics of which more is better: it ends at the highest value and starts at a round one below all."""
    lowest = min(values, default=0.0)
    for start in (end * start for start in _STARTS):
        if lowest - start >= _LEAST_SHARE * (end - start):
            return Axis(start, end)
    return Axis(0.0, end)


def cost_axis(values: Iterable[float]) -> Axis | None:
    """An axis for costs: it starts at 0 and ends at the highest; None if there is none above 0."""
    highest = max(values, default=0.0)
    return Axis(0.0, highest) if highest > 0 else None


def bar(value: float, axis: Axis, width: int, interval: tuple[float, float] | None = None) -> str:
    """A bar of ``width`` cells.

    ``━`` fills it up to the value, to half a cell (``╸``, or ``╾`` before a whisker). ``┿`` is where the interval
    begins, ``┤`` where it ends, each where there is a cell for it.
    """
    halves = round(2 * axis.position(value, width))
    cells = ["━"] * (halves // 2) + ["╸"] * (halves % 2)
    filled = len(cells)
    cells += [" "] * (width - filled)
    if interval is not None:
        # A limit on the border of two cells belongs to the right one, whatever floating point says.
        low, high = (min(int(axis.position(limit, width) + 1e-9), width - 1) for limit in interval)
        if low < halves // 2 - 1:
            cells[low] = "┿"
        if high >= filled:
            cells[filled:high] = ["─"] * (high - filled)
            cells[high] = "┤"
            if halves % 2:
                cells[filled - 1] = "╾"
    return "".join(cells)


_BAR = 24


def progress_line(done: int, total: int | None, words: Iterable[str], title: str = "") -> Text:
    """A bar of what is done behind a title, and words; an empty one where nobody knows how much there is."""
    drawn = "" if total is None else bar(done, Axis(0, max(total, 1)), _BAR).rstrip()
    line = Text.assemble(title, (drawn, "green"), ("·" * (_BAR - len(drawn)), "bright_black"), " ")
    line.append(" · ".join(words))
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
