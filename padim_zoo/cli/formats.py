"""In which format a table is written: the one that was asked for, or that of the file's suffix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.table import write_content
from padim_zoo.core.errors import InputError

if TYPE_CHECKING:
    from padim_zoo.bench.text_table import TextTable

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
        raise InputError(
            f"--output {output} has the suffix {output.suffix}: expected {', '.join(suffixes)}, or --format"
        )
    return SUFFIXES[output.suffix.lower()]


def tell_written(form: str, output: Path | None) -> None:
    """Say what was written, and what else a name without a suffix could have given."""
    if output is None:
        return
    others = "" if output.suffix or form != "table" else "; a suffix gives another format, such as .csv or .md"
    click.echo(f"{form} in {output}{others}", err=True)


def write_tables(tables: Sequence[TextTable], form: str, output: Path | None) -> None:
    """Write tables of text as Markdown, LaTeX or HTML."""
    from padim_zoo.bench import text_table

    write = {"md": text_table.to_markdown, "latex": text_table.to_latex, "html": text_table.to_html}
    write_content(write[form](tables), output)
