"""A leaderboard that shows itself in a notebook: a table with bars, units and the best marked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from padim_zoo.bench.formats import records
from padim_zoo.bench.leaderboard import TIMINGS, better_values, leaderboard, sort_rows, summarize
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.table import (
    COSTS,
    axis_of,
    best_values,
    columns_with_bars,
    heading,
    metrics_to_show,
    render,
    shared_settings,
    telling_columns,
)
from padim_zoo.core.errors import InputError, MissingExtraError

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
            documents = RunStore(runs).read_all().documents
            if not documents:
                raise InputError(f"{runs} holds no run: fill it with padim-zoo bench --output {runs}")
            board = summarize(documents, [by] if isinstance(by, str) else by) if by else leaderboard(documents)
        self.sort = sort
        self.frame: pd.DataFrame = sort_rows(board, sort) if sort else board.reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        """The table as padim-zoo leaderboard prints it into a file."""
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=160).print(render(self.frame, self.sort))
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        try:
            return str(self.styler().to_html())
        except MissingExtraError as error:
            plain: Any = self._shown()
            return f"{plain.to_html(index=False, na_rep='–', escape=True)}<p>{error}</p>"

    def _columns(self) -> list[str]:
        return [*telling_columns(records(self.frame)), *metrics_to_show(self.sort), *COSTS]

    def _shown(self) -> pd.DataFrame:
        shown: pd.DataFrame = self.frame.head(MOST_ROWS)[self._columns()]
        return shown

    def styler(self) -> Styler:
        """The table with bars, to style further or to write with ``.to_html()`` or ``.to_latex()``.

        Raises
        ------
        MissingExtraError
            Without jinja2.
        """
        try:
            import jinja2  # noqa: F401
        except ImportError:
            raise MissingExtraError("jinja2", "report", "a leaderboard with bars in a notebook") from None
        shown = self._shown()
        better = better_values()
        numbers = [name for name in shown.columns if name in better]
        texts = [name for name in shown.columns if name not in numbers]
        best = {place for place in best_values(self.frame, numbers) if place[0] < len(shown) and place[1] not in COSTS}
        main, low, high = self._axis()
        titles = {name: heading(name).replace("\n", " ") for name in shown.columns}
        caption = " · ".join(f"{name} {value}" for name, value in shared_settings(records(self.frame)).items())
        if main is not None:
            caption += f" — bars: {titles[main]} from {low:g} to {high:.3g}"
        if len(self.frame) > MOST_ROWS:
            caption += f" — the first {MOST_ROWS} of {len(self.frame)} rows"

        def weights(column: pd.Series[Any]) -> list[str]:
            return ["font-weight:bold" if (int(row), str(column.name)) in best else "" for row in column.index]

        style: Any = shown.style.hide(axis="index").set_caption(_escaped(caption))
        style = style.format(_metric, subset=[name for name in numbers if name not in TIMINGS])
        style = style.format(_cost, subset=[name for name in numbers if name in TIMINGS])
        style = style.format(_text, subset=texts, escape="html")
        style = style.format_index(lambda name: _escaped(titles[name]), axis="columns")
        style = style.apply(weights, subset=numbers)
        if main is not None:
            style = style.bar(subset=[main], vmin=low, vmax=high, color=_BAR, height=70)
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

    def _axis(self) -> tuple[str | None, float, float]:
        """The column with bars, and the values at their ends."""
        for name in columns_with_bars(self.sort):
            values = self.frame[name].dropna().tolist()
            axis = axis_of(name, values) if values else None
            if axis is not None:
                return name, axis.start, axis.end
        return None, 0.0, 1.0


def _metric(value: Any) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}"


def _cost(value: Any) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _text(value: Any) -> str:
    return "–" if pd.isna(value) else str(value)


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)
