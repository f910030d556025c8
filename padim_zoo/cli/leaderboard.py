"""``padim-zoo leaderboard``: a run store as a table on the terminal, or as a file."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from padim_zoo.atomic import write_bytes_whole, write_text_whole
from padim_zoo.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMATS = ("table", "csv", "json", "md", "parquet")
_WIDTH_OF_A_FILE = 160
_NO_WIDTH = 10_000


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--sort", metavar="COLUMN", help="Best first by this column.")
@click.option("--by", metavar="COLUMN,COLUMN", help="One mean row for each value of these, e.g. backbone.")
@click.option("--compare", nargs=2, metavar="ID ID", help="Compare two runs on the same test images instead.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="parquet needs the extra padim-zoo[parquet].",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Write a file.")
@click.option("--published", is_flag=True, help="Put published figures beside measured ones.")
@click.option("--bars/--no-bars", default=None, help="Bars beside the main figure.  [default: on a terminal]")
def leaderboard(
    runs: Path,
    sort: str | None,
    by: str | None,
    compare: tuple[str, str] | None,
    form: str,
    output: Path | None,
    published: bool,
    bars: bool | None,
) -> None:
    """Show, sort and export the leaderboard of the run store RUNS.

    docs/leaderboard.md says what its columns mean, and in which units. Ids of runs are in the column id of
    --format csv; their beginning suffices.
    """
    from padim_zoo.bench.formats import FORMATS as WRITERS
    from padim_zoo.bench.leaderboard import leaderboard as make_leaderboard
    from padim_zoo.bench.leaderboard import sort_rows, summarise
    from padim_zoo.bench.paired import compare_runs, describe_comparison
    from padim_zoo.bench.published import add_published
    from padim_zoo.bench.store import RunStore
    from padim_zoo.bench.table import render

    store = RunStore(runs)
    contents = store.read_all()
    for problem in contents.problems:
        click.echo(f"Warning: {problem}", err=True)
    if not contents.documents:
        raise InputError(f"{runs} holds no run: fill it with padim-zoo bench --output {runs}")
    if compare is not None:
        if by or sort or published:
            raise InputError("--compare shows two runs: leave out --by, --sort and --published")
        comparison = compare_runs(store, contents.documents, *compare)
        if form == "table":
            _write(describe_comparison(comparison).encode(), output)
        else:
            _export(WRITERS[form](comparison), form, output)
        return
    names = [name.strip() for name in by.split(",")] if by else []
    board = summarise(contents.documents, names) if names else make_leaderboard(contents.documents)
    if published:
        board = add_published(board)
    if sort:
        board = sort_rows(board, sort)

    if form == "table":
        on_terminal = output is None and sys.stdout.isatty()
        print_table(render(board, sort, bars=on_terminal if bars is None else bars), output)
        return
    _export(WRITERS[form](board), form, output)


def _export(content: bytes, form: str, output: Path | None) -> None:
    if output is None and form == "parquet" and sys.stdout.isatty():
        raise InputError("parquet is binary: give --output FILE, or pipe it somewhere")
    _write(content, output)


def _write(content: bytes, output: Path | None) -> None:
    if output is not None:
        write_bytes_whole(output, content)
    else:
        click.echo(content, nl=False)


def print_table(table: RenderableType, output: Path | None = None) -> None:
    """Print to standard output or a file; only a terminal has a width that a table must keep to."""
    from rich.console import Console
    from rich.measure import Measurement

    text = io.StringIO()
    console = Console() if output is None else Console(file=text, width=_WIDTH_OF_A_FILE)
    if output is not None or not console.is_terminal:
        needed = Measurement.get(console, console.options.update(max_width=_NO_WIDTH), table).maximum
        console.width = max(console.width, _WIDTH_OF_A_FILE, needed)
    console.print(table)
    if output is not None:
        write_text_whole(output, text.getvalue())
