"""Records as a table on standard output, or as JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.core.atomic_write import write_bytes_whole, write_text_whole
from padim_zoo.core.jsonable import to_jsonable

if TYPE_CHECKING:
    from rich.console import RenderableType

_NO_WIDTH = 10_000


def show_table(records: Sequence[Mapping[str, Any]]) -> None:
    """Print records as a table."""
    print_table(table_of(records))


def table_of(records: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Records as a table; the columns are the keys of the records in order of appearance."""
    from rich import box
    from rich.table import Table

    columns = list(dict.fromkeys(key for record in records for key in record))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        numeric = all(isinstance(record.get(column), (int, float, type(None))) for record in records)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
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
