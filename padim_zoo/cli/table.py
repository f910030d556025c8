"""Records as a table on standard output, or as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import click

_WIDE = 10_000  # columns; a pipe has no width, and a table in a file should not be cut


def show_table(records: Sequence[Mapping[str, Any]]) -> None:
    """Print records as a table; the columns are the keys of the records in order of appearance."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    columns = list(dict.fromkeys(key for record in records for key in record))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        numeric = all(isinstance(record.get(column), (int, float, type(None))) for record in records)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for record in records:
        table.add_row(*(cell(record.get(column)) for column in columns))
    console.print(table)


def show_json(value: Any) -> None:
    """Print JSON; NaN, which JSON lacks, becomes null."""
    click.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False))


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


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
