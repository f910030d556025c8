"""``padim-zoo report``: a run store to one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from padim_zoo.cli.options import PATH, check_target
from padim_zoo.cli.table import size_of


@click.command()
@click.argument("runs", type=PATH)
@click.option("-o", "--output", type=PATH, default="report.html", show_default=True, help="The HTML file.")
@click.option(
    "--images",
    type=click.IntRange(0, 4),
    default=4,
    show_default=True,
    help="Number of worst misses, worst false alarms and random images per run; 0 for none.",
)
@click.option("--title", default="Anomaly detection benchmark", show_default=True, help="Heading of the page.")
def report(runs: Path, output: Path, images: int, title: str) -> None:
    """Write a run store as one HTML page, which opens from disk and needs no network.

    RUNS is the output of padim-zoo bench. Needs padim-zoo[report].
    """
    from padim_zoo.bench.store import RunStore
    from padim_zoo.core.atomic_write import write_text_whole
    from padim_zoo.report.page import render_report

    check_target(output, "report.html")
    made = render_report(RunStore(runs), images, title)
    for problem in made.problems:
        click.echo(problem, err=True)
    write_text_whole(output, made.page)
    click.echo(f"report in {size_of(output)}")
