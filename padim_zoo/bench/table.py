"""A leaderboard for a terminal: the columns that tell its rows apart, the main figures, the best of each marked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from padim_zoo.bench.bars import Axis, bar, cost_axis, figure_axis
from padim_zoo.bench.formats import cell, records
from padim_zoo.bench.leaderboard import COLUMNS, CONFIGURED, HASHES, IN_RUNTIMES, is_mean

_TELLING = (
    *("dataset", "detector", "backbone", "estimator", "ensemble"),
    *(name for name, kind in CONFIGURED.items() if kind == "integer"),
    *(*CONFIGURED, "precision_asked", *HASHES),
)
"""The columns that tell rows apart, the most telling first."""

FIGURES = ("image_auroc", "pixel_auroc", "aupro")
COSTS = ("fit_seconds", "ms_per_image_b1", "model_mb", "peak_memory_mb")
_RUNTIME_HEADINGS = {name: f"ms/image\n{name.rpartition('_')[2]}" for name in IN_RUNTIMES}
_PUBLISHED = tuple(f"published_{name}" for name in FIGURES)
_DIFFERENCES = tuple(f"difference_{name}" for name in FIGURES)
HEADINGS = {
    "image_auroc": "image\nAUROC",
    "pixel_auroc": "pixel\nAUROC",
    "aupro": "AUPRO",
    "fit_seconds": "fit\ns",
    "ms_per_image_b1": "ms/image\nbatch 1",
    **_RUNTIME_HEADINGS,
    "model_mb": "model\nMB",
    "peak_memory_mb": "peak\nMB",
    "difference_image_auroc": "Δ\nimage",
    "difference_pixel_auroc": "Δ\npixel",
    "difference_aupro": "Δ\nAUPRO",
    "published_image_auroc": "publ.\nimage",
    "published_pixel_auroc": "publ.\npixel",
    "published_aupro": "publ.\nAUPRO",
}
_NARROWEST_BAR, _WIDEST_BAR = 12, 30
_UNBOUNDED = 10_000
BETTER = {column.name: column.better for column in COLUMNS if column.better}


def render(
    board: pd.DataFrame,
    sorted_by: str | None = None,
    *,
    bars: bool = False,
    podium: bool = False,
    max_lines: int | None = None,
) -> RenderableType:
    """A table, with what all rows share above it, and errors and notes below.

    The best figures among the rows of one category are marked with a star. Where the console is too narrow, costs are
    left out from the right, and a line says so.

    Parameters
    ----------
    board : DataFrame
    sorted_by : str, optional
        A column that is shown in any case.
    bars : bool
        Draw a bar of the main figure beside it, where there is room: that of ``sorted_by`` if it is a figure or a
        cost, else of the image AUROC.
    podium : bool
        Mark the first row as the best: the board is sorted, and its rows are rivals.
    max_lines : int, optional
        Leave rows out from below, and errors and notes, so that no more lines are printed.
    """
    return _View(board, sorted_by, bars, podium, max_lines)


@dataclass(frozen=True)
class _View:
    board: pd.DataFrame
    sorted_by: str | None
    bars: bool
    podium: bool
    max_lines: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = records(self.board)
        shown = len(rows) if self.max_lines is None else min(len(rows), max(1, self.max_lines))
        parts = self._fitted(console, options, rows, shown)
        if self.max_lines is None:
            yield from parts
            return
        while True:
            lines = console.render_lines(Group(*parts), options, pad=False)
            beyond = len(lines) - self.max_lines
            if beyond <= 0 or shown <= 1:
                break
            shown = max(1, shown - beyond)
            parts = self._fitted(console, options, rows, shown)
        yield from parts

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._table(records(self.board), self._figures(), self._costs()))

    def _figures(self) -> list[str]:
        wanted = self.sorted_by
        figures = [*FIGURES, *((wanted,) if wanted in BETTER and wanted not in (*FIGURES, *COSTS) else ())]
        return figures + [name for name in (*_PUBLISHED, *_DIFFERENCES) if name in self.board.columns]

    def _costs(self) -> list[str]:
        """The costs, with those of runtimes where any was measured."""
        measured = [name for name in IN_RUNTIMES if self.board[name].notna().any()]
        return [*COSTS[:2], *measured, *COSTS[2:]]

    def _fitted(
        self, console: Console, options: ConsoleOptions, rows: list[dict[str, Any]], shown: int
    ) -> list[RenderableType]:
        """Heading, table and remarks as the width allows."""
        figures, costs = self._figures(), self._costs()
        dropped: list[str] = []
        unbounded = options.update(max_width=_UNBOUNDED)

        def missing(chart: _Chart | None = None) -> int:
            table = self._table(rows, figures, costs, chart, shown)
            return Measurement.get(console, unbounded, table).maximum - options.max_width

        while costs and missing() > 0:
            dropped.insert(0, costs.pop())
        chart = self._chart(rows, _WIDEST_BAR) if self.bars else None
        if chart is not None and (beyond := missing(chart)) > 0:
            width = chart.width - beyond
            chart = replace(chart, width=width) if width >= _NARROWEST_BAR else None
        table = self._table(rows, figures, costs, chart, shown)
        heading = Text(" · ".join(f"{name} {value}" for name, value in shared_settings(rows).items()), style="dim")
        if shown < len(rows):
            return [heading, table, Text(f"… and {len(rows) - shown} more rows", style="dim")]
        lines = [] if self.max_lines is not None else _remarks(rows, telling_columns(rows))
        if chart is not None and chart.intervals:
            lines.insert(0, Text("┿ and ┤ are the ends of the 95 % interval", style="dim"))
        if dropped:
            names = ", ".join(HEADINGS.get(name, name).replace("\n", " ") for name in dropped)
            lines.append(Text(f"too narrow for: {names}", style="dim"))
        return [heading, table, *lines]

    def _chart(self, rows: list[dict[str, Any]], width: int) -> _Chart | None:
        """The bars of the main figure; None where no row has one."""
        candidates = [self.sorted_by] if self.sorted_by in BETTER else list(FIGURES)
        for name in candidates:
            values = [row[name] for row in rows if row[name] is not None]
            if values:
                assert name is not None
                intervals = {
                    number: (row[f"{name}_low"], row[f"{name}_high"])
                    for number, row in enumerate(rows)
                    if row.get(f"{name}_low") is not None and row.get(f"{name}_high") is not None
                }
                lows = [low for low, _ in intervals.values()]
                axis = figure_axis([*values, *lows]) if BETTER[name] == "high" else cost_axis(values)
                return None if axis is None else _Chart(name, axis, width, intervals)
        return None

    def _table(
        self,
        rows: list[dict[str, Any]],
        figures: list[str],
        costs: list[str],
        chart: _Chart | None = None,
        shown: int | None = None,
    ) -> Table:
        leading = telling_columns(rows)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for name in leading:
            # On a podium every row is a mean; over how many categories is what one has to know of it.
            title = "  categories" if self.podium and name == "category" else name.replace("_", " ")
            table.add_column(title, overflow="fold")
        columns = [*figures, *costs]
        for name in columns:
            table.add_column(HEADINGS.get(name, name.replace("_", "\n")), justify="right", no_wrap=True)
            if chart is not None and name == chart.name:
                title = HEADINGS.get(name, name).replace("\n", " ")
                table.add_column(f"{title}\n{chart.axis.labels(chart.width)}", no_wrap=True)
        best = best_figures(self.board, figures)
        previous_mean = False
        for number, row in enumerate(rows[:shown]):
            if is_mean(row) and not previous_mean and number:
                table.add_section()
            previous_mean = is_mean(row)
            first = self.podium and number == 0 and len(rows) > 1
            told = {**row, "category": f"{'▶' if first else ' '} {row['categories']}"} if self.podium else row
            cells = [Text(cell(told[name]), style="bold green" if first else "") for name in leading]
            if row["status"] == "failed":
                cells += [Text("failed", style="red")]
            else:
                for name in columns:
                    cells.append(_figure(row, name, (number, name) in best))
                    if chart is not None and name == chart.name:
                        cells.append(chart.cell(number, row[name], first or (number, name) in best))
            table.add_row(*cells)
        return table


@dataclass(frozen=True)
class _Chart:
    """The column of bars: of which column, on which axis, and the intervals by the number of their row."""

    name: str
    axis: Axis
    width: int
    intervals: dict[int, tuple[float, float]]

    def cell(self, number: int, value: float | None, best: bool) -> Text:
        if value is None:
            return Text("")
        drawn = bar(value, self.axis, self.width, self.intervals.get(number))
        text = Text(drawn, style="green" if best else "cyan")
        beyond = max(map(drawn.rfind, "━╸╾")) + 1
        text.stylize("bright_black", beyond)
        return text


def shared_settings(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What all rows have in common, mean rows aside: these lack what they average over."""
    runs = [row for row in rows if not is_mean(row)] or rows
    values = {name: {row[name] for row in runs} for name in _TELLING if name not in ("category", *HASHES)}
    shared = {name: found.pop() for name, found in values.items() if len(found) == 1 and None not in found}
    if shared.pop("precision_asked", None) == "auto":
        found = shared.get("precision", "auto")
        shared["precision"] = "auto" if found == "auto" else f"auto ({found})"
    return shared


def telling_columns(rows: list[dict[str, Any]]) -> list[str]:
    """The columns that it takes to tell the rows apart: what follows from those before it is left out."""
    telling = ["category"]
    for name in _TELLING:
        apart = {tuple(row[key] for key in telling) for row in rows}
        if len({tuple(row[key] for key in (*telling, name)) for row in rows}) > len(apart):
            telling.append(name)
    # What auto came to is shown wherever it differs, though it tells no rows apart that were not apart already.
    if "precision" not in telling and len({row["precision"] for row in rows if row["precision"] is not None}) > 1:
        telling.append("precision")
    return telling


def best_figures(board: pd.DataFrame, names: list[str]) -> set[tuple[int, str]]:
    """Row number and column of every figure that no other row of its category beats."""
    best: set[tuple[int, str]] = set()
    board = board.reset_index(drop=True)
    for _, rows in board.groupby([board["dataset"], board["category"], board["id"].isna()], dropna=False):
        # A mean over fewer categories is no rival of one over all: they may be the easy ones.
        rivals = rows[rows["categories"] == rows["categories"].max()]
        for name in names:
            values = rivals[name].dropna()
            if name in BETTER and len(values) > 1:
                winner = values.max() if BETTER[name] == "high" else values.min()
                best |= {(int(number), name) for number in values.index[values == winner]}
    return best


def _figure(row: dict[str, Any], name: str, best: bool) -> Text:
    value = row[name]
    if value is None:
        return Text("–")
    if name in _DIFFERENCES:
        return Text(f"{value:+.3f} ")
    if BETTER.get(name) == "high" or name in _PUBLISHED:
        text = f"{value:.3f}"
        deviation = row.get(f"{name}_std")
        text += _plus_minus(deviation)
    else:
        text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return Text(text + ("*" if best else " "), style="bold" if best else "")


def _plus_minus(deviation: float | None) -> str:
    """Nothing where nothing deviates, as of a detector without seed: ±.000 would say that it was measured."""
    if deviation is None or deviation < 1e-9:
        return ""
    return "±<.001" if deviation < 5e-4 else f"±{deviation:.3f}".replace("0.", ".")


def _remarks(rows: list[dict[str, Any]], leading: list[str]) -> list[Text]:
    remarks: dict[str, list[str]] = {}
    for row in rows:
        name_of_row = " ".join(cell(row[name]) for name in leading)
        if row["error"]:
            remarks.setdefault(f"failed: {row['error']}", []).append(name_of_row)
        if row["notes"]:
            remarks.setdefault(row["notes"], []).append(name_of_row)
    lines = [Text("* best of its category", style="dim")] if len(rows) > 1 else []
    for remark, of in remarks.items():
        more = f" and {len(of) - 2} more" if len(of) > 3 else ""
        lines.append(Text(f"{', '.join(of if not more else of[:2])}{more}: {remark}"))
    return lines
