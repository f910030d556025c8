"""A leaderboard for a terminal: as many columns as fit, bars, and a star at the best values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from padim_zoo.bench.bars import Axis, bar
from padim_zoo.bench.best_values import best_values
from padim_zoo.bench.columns import (
    DIFFERENCES,
    NOTHING_PUBLISHED,
    Rows,
    axis_of,
    column_with_bars,
    heading,
    lacks_published,
    metrics_to_show,
    shared_settings,
    telling_columns,
    title_in_line,
    value_text,
)
from padim_zoo.bench.costs import COSTS, IN_RUNTIMES, MAIN_COSTS
from padim_zoo.bench.formats import cell, records
from padim_zoo.bench.leaderboard import difference_column, is_mean, published_column, published_metrics
from padim_zoo.bench.status import FAILED
from padim_zoo.metrics.metric import METRICS, is_undefined_note

_NARROWEST_BAR, _WIDEST_BAR = 12, 30
_UNBOUNDED = 10_000


@dataclass(frozen=True)
class BoardTable:
    """A table, with what all rows share above it, and errors and notes below.

    The best values among the rows of one category are marked with a star. Where the console is too narrow, costs are
    left out from the right, and a line says so.

    Attributes
    ----------
    board : DataFrame
    sorted_by : str, optional
        A column that is shown in any case.
    bars : bool
        Draw a bar of the first metric beside it, where there is room; of ``sorted_by`` if it is a metric or a cost.
    podium : bool
        Mark the first row as the best: the board is sorted, and its rows are rivals.
    max_lines : int, optional
        Leave rows out from below, and errors and notes, so that no more lines are printed.
    """

    board: pd.DataFrame
    sorted_by: str | None = None
    bars: bool = field(default=False, kw_only=True)
    podium: bool = field(default=False, kw_only=True)
    max_lines: int | None = field(default=None, kw_only=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows, limit = records(self.board), self.max_lines
        shown = len(rows) if limit is None else min(len(rows), max(1, limit))
        parts = self._fitted(console, options, rows, shown)
        while limit is not None and shown > 1:
            beyond = len(console.render_lines(Group(*parts), options, pad=False)) - limit
            if beyond <= 0:
                break
            shown = max(1, shown - beyond)
            parts = self._fitted(console, options, rows, shown)
        yield from parts

    def _metrics(self) -> list[str]:
        """The main metrics, the column that the board is sorted by, and what is published."""
        names = published_metrics()
        published = [*map(published_column, names), *map(difference_column, names)]
        return [
            *metrics_to_show(self.board, self.sorted_by),
            *(name for name in published if name in self.board.columns and self.board[name].notna().any()),
        ]

    def _costs(self) -> list[str]:
        """The costs, with those of runtimes where any was measured."""
        measured = [name for name in IN_RUNTIMES if self.board[name].notna().any()]
        return [name for name in COSTS if name in (*MAIN_COSTS, *measured)]

    def _fitted(self, console: Console, options: ConsoleOptions, rows: Rows, shown: int) -> list[RenderableType]:
        """Heading, table and remarks as the width allows."""
        metrics, costs, leading = self._metrics(), self._costs(), telling_columns(rows)
        dropped: list[str] = []
        unbounded = options.update(max_width=_UNBOUNDED)

        def measured(table: Table) -> Measurement:
            return Measurement.get(console, unbounded, table)

        def missing(table: Table) -> int:
            if options.max_width >= _UNBOUNDED:  # a file: measuring takes as long as drawing
                return 0
            return measured(table).maximum - options.max_width

        table = self._table(rows, leading, metrics, costs, None, shown)
        while costs and missing(table) > 0:
            dropped.insert(0, costs.pop())
            table = self._table(rows, leading, metrics, costs, None, shown)
        # names fold, numbers do not
        while len(metrics) > 1 and missing(table) > 0 and measured(table).minimum > options.max_width:
            dropped.insert(0, metrics.pop())
            table = self._table(rows, leading, metrics, costs, None, shown)
        chart = self._chart(rows) if self.bars else None
        if chart is not None and (beyond := missing(self._table(rows, leading, metrics, costs, chart, shown))) > 0:
            width = chart.width - beyond
            chart = replace(chart, width=width) if width >= _NARROWEST_BAR else None
        if chart is not None:
            table = self._table(rows, leading, metrics, costs, chart, shown)
        shared = Text(" · ".join(f"{name} {value}" for name, value in shared_settings(rows).items()), style="dim")
        if shown < len(rows):
            return [shared, table, Text(f"… and {len(rows) - shown} more rows", style="dim")]
        lines = [Text("* best of its category", style="dim")] if best_values(self.board, metrics) else []
        lines = [] if self.max_lines is not None else [*lines, *map(Text, _remarks(rows, leading, metrics + dropped))]
        if chart is not None and chart.intervals:
            lines.insert(0, Text("┿ and ┤ are the ends of the 95 % interval", style="dim"))
        if lacks_published(self.board):
            lines.append(Text(NOTHING_PUBLISHED, style="dim"))
        if dropped:
            lines.append(Text(f"too narrow for: {', '.join(map(title_in_line, dropped))}", style="dim"))
        return [shared, table, *lines]

    def _chart(self, rows: Rows) -> _Chart | None:
        """The column of bars, as wide as it may be; None where no row has a value."""
        name = column_with_bars(self.board, self.sorted_by)
        if name is None:
            return None
        bounds = [(row.get(f"{name}_low"), row.get(f"{name}_high")) for row in rows]
        intervals = {number: pair for number, pair in enumerate(bounds) if None not in pair}
        values = [*(row[name] for row in rows), *(low for low, _ in intervals.values())]
        axis = axis_of(name, [value for value in values if value is not None])
        return None if axis is None else _Chart(name, axis, _WIDEST_BAR, intervals)

    def _table(
        self,
        rows: Rows,
        leading: list[str],
        metrics: list[str],
        costs: list[str],
        chart: _Chart | None = None,
        shown: int | None = None,
    ) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for name in leading:
            # On a podium every row is a mean; over how many categories is what one has to know of it.
            title = "  categories" if self.podium and name == "category" else name.replace("_", " ")
            table.add_column(title, overflow="fold")
        columns = [*metrics, *costs]
        for name in columns:
            table.add_column(heading(name), justify="right", no_wrap=True)
            if chart is not None and name == chart.name:
                table.add_column(f"{title_in_line(name)}\n{chart.axis.labels(chart.width)}", no_wrap=True)
        best = best_values(self.board, metrics)
        for number, row in enumerate(rows[:shown]):
            if number and is_mean(row) and not is_mean(rows[number - 1]):
                table.add_section()
            first = self.podium and number == 0 and len(rows) > 1
            told = {**row, "category": f"{'▶' if first else ' '} {row['categories']}"} if self.podium else row
            cells = [Text(cell(told[name]), style="bold green" if first else "") for name in leading]
            if row["status"] == FAILED:
                cells += [Text(FAILED, style="red")]
            else:
                for name in columns:
                    cells.append(_number(row, name, (number, name) in best))
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
    intervals: dict[int, tuple[Any, Any]]

    def cell(self, number: int, value: float | None, best: bool) -> Text:
        if value is None:
            return Text("")
        drawn = bar(value, self.axis, self.width, self.intervals.get(number))
        text = Text(drawn, style="green" if best else "cyan")
        text.stylize("bright_black", max(map(drawn.rfind, "━╸╾")) + 1)
        return text


def _number(row: dict[str, Any], name: str, best: bool) -> Text:
    if row[name] is None:
        return Text("–")
    if name in DIFFERENCES:
        return Text(f"{value_text(row, name)} ")
    return Text(value_text(row, name) + ("*" if best else " "), style="bold" if best else "")


def remarks_of(board: pd.DataFrame) -> list[str]:
    """The errors and notes of the rows, as they stand below a table."""
    rows = records(board)
    return _remarks(rows, telling_columns(rows), metrics_to_show(board, None))


def _remarks(rows: Rows, leading: list[str], shown: Sequence[str]) -> list[str]:
    """What is noted of rows: what the same rows have in common on one line.

    That a metric is undefined is told only of the columns that are shown: of others nobody asks.
    """
    hidden = [name for name in METRICS if name not in shown]
    named: dict[str, list[str]] = {}
    for row in rows:
        failure = [f"failed: {row['error']}"] if row["error"] else []
        for remark in dict.fromkeys([*failure, *(row["notes"] or "").split("; ")]):
            if remark and not is_undefined_note(remark, hidden):
                named.setdefault(remark, []).append(" ".join(cell(row[name]) for name in leading))
    together: dict[tuple[str, ...], list[str]] = {}
    for remark, names in named.items():
        together.setdefault(tuple(names), []).append(remark)
    lines = []
    runs = sum(not is_mean(row) for row in rows)
    for names_of, remarks in together.items():
        shown = f"{', '.join(names_of[:2])} and {len(names_of) - 2} more" if len(names_of) > 3 else ", ".join(names_of)
        whose = "all" if len(names_of) >= runs > 1 else shown
        lines.append(f"{whose}: {'; '.join(remarks)}")
    return lines
