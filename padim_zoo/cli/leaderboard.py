"""``padim-zoo leaderboard``: a run store as a table on the terminal, or as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from padim_zoo.cli.candidates import complete_columns
from padim_zoo.cli.inputs import read_runs
from padim_zoo.cli.options import PATH
from padim_zoo.cli.table import (
    format_option,
    print_table,
    resolve_format,
    table_of,
    tell_written,
    write_content,
    write_data,
    write_tables,
)
from padim_zoo.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from rich.console import RenderableType

    from padim_zoo.bench.store import Document, RunStore

SOME_FAILED = 1
"""Exit code when a benchmark that was watched was killed."""


@click.command()
@click.argument("runs", nargs=-1, type=PATH)
@click.option("--sort", metavar="COLUMN", shell_complete=complete_columns, help="Sort by a column, best first.")
@click.option("--by", metavar="COLUMN,COLUMN", help="Average over all but these columns, e.g. backbone.")
@click.option("--compare", nargs=2, metavar="ID ID", help="Compare two runs on the same test images.")
@format_option()
@click.option("--output", "-o", type=PATH, metavar="FILE", help="Write to a file.")
@click.option("--published", is_flag=True, help="Show published results beside measured ones.")
@click.option("--corruptions", is_flag=True, help="Show each run on its corrupted test images.")
@click.option("--watch", is_flag=True, help="Follow a benchmark that runs in another terminal.")
@click.option("--bars/--no-bars", default=None, help="Show bars beside the main metric.  [default: on a terminal]")
def leaderboard(
    runs: tuple[Path, ...],
    sort: str | None,
    by: str | None,
    compare: tuple[str, str] | None,
    form: str | None,
    output: Path | None,
    published: bool,
    corruptions: bool,
    watch: bool,
    bars: bool | None,
) -> None:
    """Show, sort and export the leaderboard of the run stores RUNS, by default runs.

    If several stores hold a run, the newest finished one counts.

    The suffix of --output sets the format: csv, json, md, tex, html, parquet or txt. LaTeX has a table of categories x
    methods for each main metric, or for that of --sort. It needs the package booktabs.

    docs/leaderboard.md explains the columns and their units. The ids of runs are in the column id of --format csv;
    the first characters are enough.

    --corruptions has a row for each run and amount: false alarms and detections at the threshold of the clean fit, and
    image AUROC.

    --watch shows the progress of a benchmark that writes to RUNS, and its best configurations so far (or the rows of
    --by). It waits for one to start and ends with it. Ctrl-C ends it earlier, with exit code 130.
    """
    from padim_zoo.bench.store import merged

    form = resolve_format(form, output)
    died = False
    folders = runs or (Path("runs"),)
    if len(folders) > 1 and (watch or compare is not None):
        raise InputError(f"--watch and --compare take one run store, and {len(folders)} are given")
    names = [name.strip() for name in by.split(",")] if by else []
    if corruptions and (by or sort or compare or published or watch):
        raise InputError("--corruptions shows single runs: leave out --by, --sort, --compare, --published and --watch")
    if watch:
        if compare or published or output is not None or form != "table":
            raise InputError("--watch shows a table: leave out --compare, --published, --format and --output")
        died = _watch(folders[0], names, sort, bars)
    stores = [read_runs(folder) for folder in folders]
    store, _ = stores[0]
    documents = merged([document for _, documents in stores for document in documents])
    if compare is not None:
        if by or sort or published:
            raise InputError("--compare shows two runs: leave out --by, --sort and --published")
        _compare(store, documents, compare, form, output)
    elif corruptions:
        _show_corruptions(documents, form, output)
    else:
        _show_board(_make_board(documents, names, sort, published=published), sort, form, output, bars)
    tell_written(form, output)
    if died:
        sys.exit(SOME_FAILED)


def _show_board(board: pd.DataFrame, sort: str | None, form: str, output: Path | None, bars: bool | None) -> None:
    if form == "table":
        from padim_zoo.bench.table import BoardTable

        on_terminal = output is None and sys.stdout.isatty()
        print_table(BoardTable(board, sort, bars=on_terminal if bars is None else bars), output)
    elif not write_data(board, form, output):
        from padim_zoo.bench.board_tables import method_tables, rows_table

        write_tables(method_tables(board, sort) if form == "latex" else [rows_table(board, sort)], form, output)


def _compare(
    store: RunStore, documents: Sequence[Document], ids: tuple[str, str], form: str, output: Path | None
) -> None:
    from padim_zoo.bench.compare import compare_runs, describe_comparison
    from padim_zoo.bench.formats import of_records, records

    comparison = compare_runs(store, documents, *ids)
    if form == "table":
        write_content(describe_comparison(comparison).encode(), output)
    elif not write_data(comparison, form, output):
        write_tables([of_records(records(comparison))], form, output)


def _show_corruptions(documents: Sequence[Document], form: str, output: Path | None) -> None:
    from padim_zoo.bench.corruption_table import corruption_table
    from padim_zoo.bench.formats import of_records, records

    table = corruption_table(documents)
    rows = records(table.drop(columns="id"))
    if form == "table":
        print_table(table_of(rows), output)
    elif not write_data(table, form, output):
        write_tables([of_records(rows)], form, output)


def _make_board(
    documents: Sequence[Document], by: list[str], sort: str | None, published: bool = False
) -> pd.DataFrame:
    """The rows that are asked for, in order."""
    from padim_zoo.bench.leaderboard import leaderboard as of_runs
    from padim_zoo.bench.leaderboard import sort_rows, summarize

    board = summarize(documents, by) if by else of_runs(documents)
    if published:
        from padim_zoo.bench.published import add_published

        board = add_published(board)
    return sort_rows(board, sort) if sort else board


def _watch(runs: Path, by: list[str], sort: str | None, bars: bool | None) -> bool:
    """Watch until the end; whether a benchmark died."""
    from padim_zoo.bench.live import draw_standings
    from padim_zoo.bench.store import RunStore
    from padim_zoo.bench.table import BoardTable
    from padim_zoo.cli.watching import watch

    if not sys.stdout.isatty():
        raise InputError("--watch redraws a terminal, but standard output is not one: leave it out")
    _make_board([], by, sort)  # refuses unknown columns

    def draw(documents: Sequence[Document], max_lines: int) -> RenderableType:
        if not by and not sort:
            return draw_standings(documents, max_lines, bars=bars is not False)
        board = _make_board(documents, by, sort)
        return BoardTable(board, sort, bars=bars is not False, max_lines=max(max_lines, 1))

    watcher = watch(RunStore(runs).folder, draw)
    for state in watcher.died:
        click.echo(
            f"the benchmark of process {state.pid} was killed at {state.done} of {state.total} runs: run it again",
            err=True,
        )
    return bool(watcher.died)
