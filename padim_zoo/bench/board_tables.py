"""A leaderboard as tables of text: the rows of the terminal, or categories × methods for a paper."""

from __future__ import annotations

from typing import Any

import pandas as pd

from padim_zoo.bench.best_values import best_values
from padim_zoo.bench.columns import (
    NOTHING_PUBLISHED,
    Rows,
    cost_text,
    lacks_published,
    metrics_to_show,
    shared_settings,
    telling_columns,
    title_in_line,
    value_text,
)
from padim_zoo.bench.costs import COSTS, MAIN_COSTS
from padim_zoo.bench.formats import TextTable, cell, records
from padim_zoo.bench.leaderboard import NUMBERS, difference_column, is_mean, published_column, published_metrics
from padim_zoo.bench.status import FAILED
from padim_zoo.metrics.metric import METRICS, main_metrics, title_of


def rows_table(board: pd.DataFrame, sorted_by: str | None = None) -> TextTable:
    """The columns that the terminal shows, the best of each category bold."""
    rows = records(board)
    leading = telling_columns(rows)
    published = {column(name) for name in published_metrics() for column in (published_column, difference_column)}
    beside = [str(name) for name in board.columns if name in published and board[name].notna().any()]
    metrics = [*metrics_to_show(board, sorted_by), *beside]
    costs = list(MAIN_COSTS)
    best = best_values(board, metrics)
    names = [*leading, *metrics, *costs]
    table = TextTable([title_in_line(name) for name in names], title=_shared(rows))
    table.numbers = set(range(len(leading), len(names)))
    table.notes = [NOTHING_PUBLISHED] if lacks_published(board) else []
    for number, row in enumerate(rows):
        texts = [FAILED] * len(metrics) if row["status"] == FAILED else [value_text(row, name) for name in metrics]
        table.rows.append([*(cell(row[name]) for name in leading), *texts, *(_cost(row[name]) for name in costs)])
        table.bold |= {(number, names.index(name)) for name in metrics if (number, name) in best}
        if not is_mean(row) and number + 1 < len(rows) and is_mean(rows[number + 1]):
            table.rules.add(number)
    return table


def method_tables(board: pd.DataFrame, sorted_by: str | None = None) -> list[TextTable]:
    """A table of categories × methods for each main metric; of one metric or cost if the board is sorted by that.

    Cells are the mean ± the standard deviation over repetitions. The best method of each category is bold.
    """
    wanted = [sorted_by] if sorted_by in METRICS or sorted_by in COSTS else main_metrics()
    names = [name for name in wanted if name is not None and board[name].notna().any()]
    return [_methods(board, name) for name in names]


def _methods(board: pd.DataFrame, name: str) -> TextTable:
    rows = records(board)
    telling = [column for column in telling_columns(rows) if column != "category"]
    methods = list(dict.fromkeys(_method(row, telling) for row in rows))
    # Rows of equal categories stand together, runs before the means over them.
    categories = list(dict.fromkeys((is_mean(row), cell(row["category"])) for row in rows))
    categories.sort(key=lambda category: category[0])
    best = best_values(board, [name])
    title = " · ".join(part for part in (title_of(name), _shared(rows)) if part)
    table = TextTable(["category", *methods], title=title, numbers=set(range(1, len(methods) + 1)))
    table.rows = [[category, *["–"] * len(methods)] for _, category in categories]
    for number, row in enumerate(rows):
        line = categories.index((is_mean(row), cell(row["category"])))
        column = 1 + methods.index(_method(row, telling))
        table.rows[line] = [*table.rows[line][:column], value_text(row, name), *table.rows[line][column + 1 :]]
        if (number, name) in best:
            table.bold.add((line, column))
    table.rules = {number - 1 for number, (mean, _) in enumerate(categories) if mean and number}
    return table


def _method(row: dict[str, Any], telling: list[str]) -> str:
    """What tells a method from the others; numbers need their name."""
    named = [
        f"{column.replace('_', ' ')} {row[column]}" if column in NUMBERS else str(row[column])
        for column in telling
        if row[column] is not None
    ]
    return " ".join(named) or "all"


def _shared(rows: Rows) -> str:
    return " · ".join(f"{name} {value}" for name, value in shared_settings(rows).items())


def _cost(value: float | None) -> str:
    return "–" if value is None else cost_text(value)
