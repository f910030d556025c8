"""A leaderboard for a terminal: the columns that tell its rows apart, the main figures, the best of each marked."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from padim_zoo.bench.formats import cell, records
from padim_zoo.bench.leaderboard import COLUMNS, HASHES, IDENTITY, SETTINGS, TRANSFORM, is_mean

_TELLING = ("dataset", "detector", "backbone", "estimator", "ensemble", *SETTINGS, *TRANSFORM, *IDENTITY, *HASHES)
"""The columns that tell rows apart, the most telling first."""

_FIGURES = ("image_auroc", "pixel_auroc", "aupro")
_COSTS = ("fit_seconds", "ms_per_image_b1", "model_mb", "peak_memory_mb")
_PUBLISHED = tuple(f"published_{name}" for name in _FIGURES)
_DIFFERENCES = tuple(f"difference_{name}" for name in _FIGURES)
_HEADINGS = {
    "image_auroc": "image\nAUROC",
    "pixel_auroc": "pixel\nAUROC",
    "aupro": "AUPRO",
    "fit_seconds": "fit\ns",
    "ms_per_image_b1": "ms/image\nbatch 1",
    "model_mb": "model\nMB",
    "peak_memory_mb": "peak\nMB",
    "difference_image_auroc": "Δ\nimage",
    "difference_pixel_auroc": "Δ\npixel",
    "difference_aupro": "Δ\nAUPRO",
    "published_image_auroc": "publ.\nimage",
    "published_pixel_auroc": "publ.\npixel",
    "published_aupro": "publ.\nAUPRO",
}
_BETTER = {column.name: column.better for column in COLUMNS if column.better}


def render(board: pd.DataFrame, sorted_by: str | None = None) -> RenderableType:
    """A table, with what all rows share above it, and errors and notes below.

    The best figures among the rows of one category are marked with a star.
    """
    rows = records(board)
    leading = _telling(rows)
    figures = [*_FIGURES, *((sorted_by,) if sorted_by in _BETTER and sorted_by not in (*_FIGURES, *_COSTS) else ())]
    figures += [name for name in (*_PUBLISHED, *_DIFFERENCES) if name in board.columns]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in leading:
        table.add_column(name.replace("_", " "), overflow="fold")
    for name in (*figures, *_COSTS):
        table.add_column(_HEADINGS.get(name, name.replace("_", "\n")), justify="right", no_wrap=True)
    best = _best(board, figures)
    previous_mean = False
    for number, row in enumerate(rows):
        if is_mean(row) and not previous_mean and number:
            table.add_section()
        previous_mean = is_mean(row)
        cells = [Text(cell(row[name])) for name in leading]
        if row["status"] == "failed":
            cells += [Text("failed", style="red")]
        else:
            cells += [_figure(row, name, (number, name) in best) for name in (*figures, *_COSTS)]
        table.add_row(*cells)
    heading = Text(" · ".join(f"{name} {value}" for name, value in _shared(rows).items()), style="dim")
    return Group(heading, table, *_remarks(rows, leading))


def _shared(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What all rows have in common, mean rows aside: these lack what they average over."""
    runs = [row for row in rows if not is_mean(row)] or rows
    values = {name: {row[name] for row in runs} for name in (*IDENTITY, *SETTINGS, *TRANSFORM) if name != "category"}
    return {name: found.pop() for name, found in values.items() if len(found) == 1 and None not in found}


def _telling(rows: list[dict[str, Any]]) -> list[str]:
    """The columns that it takes to tell the rows apart: what follows from those before it is left out."""
    telling = ["category"]
    for name in _TELLING:
        apart = {tuple(row[key] for key in telling) for row in rows}
        if len({tuple(row[key] for key in (*telling, name)) for row in rows}) > len(apart):
            telling.append(name)
    return telling


def _best(board: pd.DataFrame, names: list[str]) -> set[tuple[int, str]]:
    """Row number and column of every figure that no other row of its category beats."""
    best: set[tuple[int, str]] = set()
    board = board.reset_index(drop=True)
    for _, rows in board.groupby([board["dataset"], board["category"], board["id"].isna()], dropna=False):
        for name in names:
            values = rows[name].dropna()
            if name in _BETTER and len(values) > 1:
                winner = values.max() if _BETTER[name] == "high" else values.min()
                best |= {(int(number), name) for number in values.index[values == winner]}
    return best


def _figure(row: dict[str, Any], name: str, best: bool) -> Text:
    value = row[name]
    if value is None:
        return Text("–")
    if name in _DIFFERENCES:
        return Text(f"{value:+.3f} ")
    if _BETTER.get(name) == "high" or name in _PUBLISHED:
        text = f"{value:.3f}"
        deviation = row.get(f"{name}_std")
        text += f"±{deviation:.3f}".replace("0.", ".") if deviation is not None else ""
    else:
        text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return Text(text + ("*" if best else " "), style="bold" if best else "")


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
