"""Records on standard output: as a table, as rows behind titles, or as JSON.

The format is the one that was asked for, or that of the file's suffix.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.core.atomic_write import write_bytes_whole, write_text_whole
from padim_zoo.core.errors import InputError
from padim_zoo.core.jsonable import to_jsonable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from padim_zoo.bench.formats import TextTable

_NO_WIDTH = 10_000
_BETWEEN = 3
"""Characters between two columns."""


def show_table(records: Sequence[Mapping[str, Any]]) -> None:
    """Print records as a table, or below each other where a terminal is too narrow for their longest words."""
    from rich.console import Console

    console = Console()
    width = console.width if console.is_terminal else _NO_WIDTH
    widths = column_widths(records, width)
    if widths is None:
        for record in records:
            click.echo("".join(f"{name.replace('_', ' ')}: {cell(value)}\n" for name, value in record.items()))
    else:
        print_table(table_of(records, widths))


def show_rows(rows: dict[str, str]) -> None:
    """Print text behind titles of at most ten letters."""
    for title, text in rows.items():
        click.echo(f"{title:<10} {text}")


def size_of(path: Path) -> str:
    """A file and its size."""
    return f"{path}, {path.stat().st_size / 1e6:.1f} MB"


def column_widths(records: Sequence[Mapping[str, Any]], width: int) -> list[int] | None:
    """How wide each column may be, so that all fit and none is narrower than its longest word; None if that is wider.

    The widest columns give way first.
    """
    columns = list(dict.fromkeys(key for record in records for key in record))
    texts = [[name.replace("_", " "), *(cell(record.get(name)) for record in records)] for name in columns]
    longest_word = [max((len(word) for text in column for word in text.split()), default=1) for column in texts]
    widths = [max(len(line) for text in column for line in text.split("\n")) for column in texts]
    room = width - _BETWEEN * (len(columns) - 1)
    if sum(longest_word) > room:
        return None
    while sum(widths) > room:
        number = max(range(len(widths)), key=lambda number: (widths[number] > longest_word[number], widths[number]))
        widths[number] -= 1
    return widths


def table_of(records: Sequence[Mapping[str, Any]], widths: Sequence[int | None] = ()) -> RenderableType:
    """Records as a table; the columns are the keys of the records in order of appearance."""
    from rich import box
    from rich.table import Table

    columns = list(dict.fromkeys(key for record in records for key in record))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, width in zip_longest(columns, widths):
        numeric = all(isinstance(record.get(column), (int, float, type(None))) for record in records)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold", width=width)
    for record in records:
        table.add_row(*(cell(record.get(column)) for column in columns))
    return table


def print_table(table: RenderableType, output: Path | None = None) -> None:
    """Print to standard output or a file; only a terminal has a width that a table must keep to."""
    from rich.console import Console

    text = io.StringIO()
    console = Console() if output is None else Console(file=text)
    if output is not None or not console.is_terminal:
        console.width = _NO_WIDTH
    console.print(table)
    if output is not None:
        write_text_whole(output, text.getvalue())


def write_content(content: bytes, output: Path | None) -> None:
    """Write what an export gave to a file, whole or not at all, or to standard output."""
    if output is None:
        click.echo(content, nl=False)
    else:
        write_bytes_whole(output, content)


def show_json(value: Any) -> None:
    """Print JSON; NaN, which JSON lacks, becomes null."""
    click.echo(json.dumps(to_jsonable(value), indent=2, ensure_ascii=False))


def cell(value: Any) -> str:
    """One value as a table shows it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:#.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    return str(value)


SUFFIXES = {
    ".txt": "table",
    ".csv": "csv",
    ".json": "json",
    ".md": "md",
    ".tex": "latex",
    ".html": "html",
    ".parquet": "parquet",
}
"""What files of each suffix hold."""


def format_option(*without: str) -> Callable[[Any], Any]:
    """The option ``--format`` of a command, which writes all formats but some."""
    forms = [form for form in SUFFIXES.values() if form not in without]
    extra = "" if "parquet" in without else "; parquet needs padim-zoo[parquet]"
    text = f"Format{extra}.  [default: by the suffix of --output, else table]"
    return click.option("--format", "form", type=click.Choice(forms), help=text)


def resolve_format(form: str | None, output: Path | None, *without: str) -> str:
    """The format that was asked for, or that of the file.

    Raises
    ------
    InputError
        If the file has a suffix that says nothing.
    """
    if form is not None:
        return form
    if output is None or not output.suffix:
        return "table"
    suffixes = [suffix for suffix, name in SUFFIXES.items() if name not in without]
    if output.suffix.lower() not in suffixes:
        raise InputError(f"--output {output} ends in {output.suffix}: expected {', '.join(suffixes)}, or --format")
    return SUFFIXES[output.suffix.lower()]


def tell_written(form: str, output: Path | None) -> None:
    """Say what was written, and what else a name without a suffix could have given."""
    if output is None:
        return
    others = "" if output.suffix or form != "table" else "; a suffix gives another format, such as .csv or .md"
    click.echo(f"{form} in {output}{others}", err=True)


def write_tables(tables: Sequence[TextTable], form: str, output: Path | None) -> None:
    """Write tables of text as Markdown, LaTeX or HTML."""
    from padim_zoo.bench.formats import to_html, to_latex, to_markdown

    write = {"md": to_markdown, "latex": to_latex, "html": to_html}
    write_content(write[form](tables), output)


def write_data(table: pd.DataFrame, form: str, output: Path | None) -> bool:
    """Write numbers as csv, json or parquet; False for any other format.

    Raises
    ------
    InputError
        If a terminal would get binary data.
    """
    from padim_zoo.bench.formats import FORMATS

    if output is None and form == "parquet" and sys.stdout.isatty():
        raise InputError("parquet is binary: give --output FILE, or pipe it somewhere")
    if form in FORMATS:
        write_content(FORMATS[form](table), output)
    return form in FORMATS
