"""A benchmark while it runs, for a terminal: configurations so far, the best marked, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from padim_zoo.bench.bars import progress_line
from padim_zoo.bench.leaderboard import CONFIGURATION, summarize
from padim_zoo.bench.running import BenchState
from padim_zoo.bench.store import Document
from padim_zoo.bench.table import BoardTable
from padim_zoo.core.progress import duration
from padim_zoo.metrics.metric import METRICS, main_metrics

_LEAST_LINES = 8


def standings(documents: Iterable[Document]) -> tuple[pd.DataFrame, str]:
    """One row for each configuration, the mean over its categories and seeds so far, the best first.

    A mean over more categories comes before one over fewer, whose mean says little beside it.

    Returns
    -------
    board : DataFrame
    metric : str
        The metric that it is sorted by: the first main one that any run has.
    """
    board = summarize(documents, CONFIGURATION)
    names = main_metrics()
    metric = next((name for name in names if board[name].notna().any()), names[0])
    ordered: pd.DataFrame = board.sort_values(
        ["categories", metric],
        ascending=[False, METRICS[metric].better == "low"],
        kind="stable",
        na_position="last",
        ignore_index=True,
    )
    return ordered, metric


def draw_standings(documents: Sequence[Document], max_lines: int, *, bars: bool = True) -> RenderableType:
    """The table of :func:`standings`, in no more than so many lines, eight at least."""
    if not documents:
        return Text("")
    board, metric = standings(documents)
    return BoardTable(board, metric, bars=bars, podium=True, max_lines=max(max_lines, _LEAST_LINES))


def draw_progress(state: BenchState, now: float | None = None) -> RenderableType:
    """Two lines: how far a benchmark is, and what it is at."""
    moment = time.time() if now is None else now
    left = state.seconds_left(moment)
    words = [f"{state.done} of {state.total} runs"]
    if state.failed:
        words.append(f"{state.failed} failed")
    words.append(duration(moment - state.started))
    if left is not None and state.done < state.total:
        words.append(f"about {duration(left)} left")
    if state.cluster:
        words.append(state.cluster)
    line = progress_line(state.done, state.total, words)
    at = [" · ".join(filter(None, (text, state.doing.get(run)))) for run, text in state.running.items()]
    more = f" and {len(at) - 1} more" if len(at) > 1 else ""
    return Group(line, Text(f"{at[0]}{more}" if at else "", style="dim", no_wrap=True, overflow="ellipsis"))
