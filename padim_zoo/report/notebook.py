"""A leaderboard that shows itself in a notebook: a table with bars, units and the best marked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from padim_zoo.bench.best_values import best_values
from padim_zoo.bench.columns import (
    axis_of,
    column_with_bars,
    cost_text,
    metrics_to_show,
    shared_settings,
    telling_columns,
    title_in_line,
)
from padim_zoo.bench.costs import COSTS, MAIN_COSTS
from padim_zoo.bench.formats import records
from padim_zoo.bench.leaderboard import better_values, leaderboard, sort_rows, summarize
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.table import BoardTable
from padim_zoo.core.errors import InputError, MissingExtraError, needs_extra

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

MOST_ROWS = 200
"""Rows that a notebook shows."""

_BAR = "#4a90c880"
"""Half transparent: text on it is read on white and on black."""


class Leaderboard:
    """The leaderboard of a run store, to look at.

    Parameters
    ----------
    runs : path or DataFrame
        A run store, or what :func:`padim_zoo.bench.leaderboard.leaderboard` made of one.
    by : sequence of str, optional
        One mean row for each value of these columns; only of a run store.
    sort : str, optional
        Best first by this column, which gets the bars.

    Attributes
    ----------
    frame : DataFrame
        The leaderboard itself: all columns, documented in docs/leaderboard.md.

    Raises
    ------
    InputError
        If there is no run, or a column is unknown.
    """

    def __init__(
        self, runs: str | Path | pd.DataFrame = "runs", *, by: Sequence[str] = (), sort: str | None = None
    ) -> None:
        if isinstance(runs, pd.DataFrame):
            if by:
                raise InputError("by needs the runs themselves: give the folder of the run store")
            board = runs
        else:
            documents = RunStore(runs).read_some().documents
            board = summarize(documents, [by] if isinstance(by, str) else by) if by else leaderboard(documents)
        self.sort = sort
        self.frame: pd.DataFrame = sort_rows(board, sort) if sort else board.reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        """The table as padim-zoo leaderboard prints it into a file."""
        from rich.console import Console

        text = io.StringIO()
        # In a notebook rich would show the table itself, beside the one of _repr_html_.
        Console(file=text, width=160, force_jupyter=False).print(BoardTable(self.frame, self.sort))
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        try:
            return str(self.styler().to_html())
        except MissingExtraError as error:
            return f"{self._shown().to_html(index=False, na_rep='–', escape=True)}<p>{error}</p>"

    def _shown(self) -> Any:
        columns = [
            *telling_columns(records(self.frame)),
            *metrics_to_show(self.frame, self.sort),
            *MAIN_COSTS,
        ]
        return self.frame.head(MOST_ROWS)[columns]

    def styler(self) -> Styler:
        """The table with bars, to style further or to write with ``.to_html()``.

        For LaTeX take ``padim-zoo leaderboard --format latex``: bars are none that it knows.

        Raises
        ------
        MissingExtraError
            Without jinja2.
        """
        with needs_extra("report", "a leaderboard with bars in a notebook"):
            import jinja2  # noqa: F401
        shown = self._shown()
        better = better_values()
        numbers = [name for name in shown.columns if name in better]
        texts = [name for name in shown.columns if name not in numbers]
        best = best_values(self.frame, [name for name in numbers if name not in MAIN_COSTS])
        main = column_with_bars(self.frame, self.sort)
        axis = None if main is None else axis_of(main, self.frame[main].dropna().tolist())
        caption = " · ".join(f"{name} {value}" for name, value in shared_settings(records(self.frame)).items())
        if main is not None and axis is not None:
            caption += f" — bars: {title_in_line(main)} from {axis.start:g} to {axis.end:.3g}"
        if len(self.frame) > MOST_ROWS:
            caption += f" — the first {MOST_ROWS} of {len(self.frame)} rows"

        def weights(column: pd.Series[Any]) -> list[str]:
            return ["font-weight:bold" if (int(row), str(column.name)) in best else "" for row in column.index]

        costs = [name for name in numbers if name in COSTS]
        style = shown.style.hide(axis="index").set_caption(escape(caption))
        style = style.format("{:.3f}", subset=[name for name in numbers if name not in costs], na_rep="–")
        style = style.format(cost_text, subset=costs, na_rep="–")
        style = style.format(str, subset=texts, na_rep="–", escape="html")
        style = style.format_index(lambda name: escape(title_in_line(name)), axis="columns")
        style = style.apply(weights, subset=numbers)
        if axis is not None:
            style = style.bar(subset=[main], vmin=axis.start, vmax=axis.end, color=_BAR, height=70)
        styled: Styler = style.set_table_styles(
            [
                {"selector": "caption", "props": "caption-side:bottom;text-align:left;font-size:11px;opacity:.75"},
                {"selector": "td", "props": "text-align:right;font-variant-numeric:tabular-nums;padding:2px 8px"},
                {"selector": "th", "props": "text-align:right;padding:2px 8px"},
                *(
                    {"selector": f"td.col{number}, th.col{number}", "props": "text-align:left"}
                    for number in range(len(texts))
                ),
            ]
        )
        return styled
