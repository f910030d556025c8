"""A table in a format: numbers as csv, json and parquet; text as Markdown, LaTeX (booktabs) and HTML."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from padim_zoo.core.errors import MissingExtraError
from padim_zoo.core.jsonable import to_jsonable
from padim_zoo.core.printable import printable, without_formula


def to_csv(board: pd.DataFrame) -> bytes:
    """Comma-separated, with a header; an empty field for what is undefined.

    Text is on one line and computes nothing, see :func:`~padim_zoo.core.printable.without_formula`.
    """
    plain = board.map(lambda value: without_formula(printable(value)) if isinstance(value, str) else value)
    text: str = plain.to_csv(index=False)
    return text.encode()


def to_json(board: pd.DataFrame) -> bytes:
    """A list of records; null for what is undefined."""
    return (json.dumps(records(board), indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def to_parquet(board: pd.DataFrame) -> bytes:
    """Apache Parquet.

    Raises
    ------
    MissingExtraError
        Without pyarrow.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet", "a table in Parquet")
    buffer = io.BytesIO()
    board.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": to_csv,
    "json": to_json,
    "parquet": to_parquet,
}


def records(board: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values, None for what is undefined."""
    plain = board.astype(object).where(board.notna(), None)
    rows: list[dict[str, Any]] = to_jsonable(plain.to_dict("records"))
    return rows


def cell(value: Any) -> str:
    """One value for a reader: four digits, and a dash for what is undefined."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
    "<": "$<$",
    ">": "$>$",
}
_PAGE = """<!doctype html>
<meta charset="utf-8">
<style>
table {{ border-collapse: collapse; font: 14px sans-serif; margin-bottom: 1em }}
caption {{ text-align: left; padding: 4px 8px }}
th, td {{ padding: 2px 8px; text-align: left; white-space: nowrap }}
.number {{ text-align: right; font-variant-numeric: tabular-nums }}
thead th, tr.rule td {{ border-bottom: 1px solid }}
</style>
{body}"""


@dataclass
class TextTable:
    """Cells as they are shown.

    Attributes
    ----------
    columns : sequence of str
    rows : list of (sequence of str)
    title : str
        What holds for all rows.
    bold : set of (int, int)
        Row and column of the best values.
    numbers : set of int
        Columns that are aligned at the right.
    rules : set of int
        Rows below which there is a line.
    notes : list of str
    """

    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    title: str = ""
    bold: set[tuple[int, int]] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    rules: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def of_records(records: Sequence[Mapping[str, Any]]) -> TextTable:
    """Records of equal keys as a table; numbers have four digits."""
    names = list(records[0]) if records else []
    rows = [[cell(record[name]) for name in names] for record in records]
    numbers = {
        column
        for column, name in enumerate(names)
        if all(isinstance(record[name], (int, float, type(None))) for record in records)
    }
    return TextTable([name.replace("_", " ") for name in names], list(rows), numbers=numbers)


def to_markdown(tables: Sequence[TextTable]) -> bytes:
    """Tables as GitHub shows them."""
    return "\n".join(map(_markdown, tables)).encode()


def to_latex(tables: Sequence[TextTable]) -> bytes:
    r"""Tables for ``\usepackage{booktabs}``."""
    return ("% \\usepackage{booktabs}\n" + "\n".join(map(_latex, tables))).encode()


def to_html(tables: Sequence[TextTable]) -> bytes:
    """One page."""
    return _PAGE.format(body="".join(map(_html, tables))).encode()


def _markdown(table: TextTable) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |\n"

    rows = [
        [f"**{cell}**" if (number, column) in table.bold else cell for column, cell in enumerate(row)]
        for number, row in enumerate(table.rows)
    ]
    title = f"{table.title}\n\n" if table.title else ""
    notes = "".join(f"\n{note}\n" for note in table.notes)
    if not table.columns:
        return f"{title}{notes}"
    below = ["---:" if column in table.numbers else "---" for column in range(len(table.columns))]
    return f"{title}{line(table.columns)}{line(below)}{''.join(map(line, rows))}{notes}"


def _latex(table: TextTable) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    align = "".join("r" if column in table.numbers else "l" for column in range(len(table.columns)))
    body = []
    for number, row in enumerate(table.rows):
        cells = [latex_text(cell) for cell in row]
        body.append(
            line([rf"\textbf{{{c}}}" if (number, column) in table.bold else c for column, c in enumerate(cells)])
        )
        if number in table.rules and number + 1 < len(table.rows):
            body.append(r"\midrule")
    parts = [r"\begin{table}", r"\centering"]
    if table.title:
        parts.append(rf"\caption{{{latex_text(table.title)}}}")
    if table.columns:
        parts += [rf"\begin{{tabular}}{{{align}}}", r"\toprule", line([latex_text(name) for name in table.columns])]
        parts += [r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    parts += [rf"\par {latex_text(note)}" for note in table.notes]
    return "\n".join([*parts, r"\end{table}"]) + "\n"


def _html(table: TextTable) -> str:
    def cell(column: int, text: str, tag: str, bold: bool = False) -> str:
        kind = ' class="number"' if column in table.numbers else ""
        inner = f"<strong>{escape(text)}</strong>" if bold else escape(text)
        return f"<{tag}{kind}>{inner}</{tag}>"

    head = "".join(cell(column, name, "th") for column, name in enumerate(table.columns))
    rows = [
        f"<tr{' class=rule' if number in table.rules else ''}>"
        + "".join(cell(column, text, "td", (number, column) in table.bold) for column, text in enumerate(row))
        + "</tr>\n"
        for number, row in enumerate(table.rows)
    ]
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in table.notes)
    caption = f"<caption>{escape(table.title)}</caption>\n" if table.title else ""
    return f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n{''.join(rows)}</table>\n{notes}"


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
