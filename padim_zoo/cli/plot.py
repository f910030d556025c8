"""``padim-zoo plot``: a run store to a picture."""

from __future__ import annotations

from pathlib import Path

import click

from padim_zoo.cli.candidates import complete_metrics
from padim_zoo.cli.options import PATH, output_option
from padim_zoo.cli.settings import setting_command

KINDS = (
    *("roc", "pr", "pro", "pixel-roc", "pixel-pr"),
    *("pareto", "folds", "histogram", "learning-curve", "heat-table", "corruptions"),
)


@setting_command("plot")
@click.argument("runs", type=PATH)
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What to plot.")
@click.option(
    "--metric",
    metavar="COLUMN",
    shell_complete=complete_metrics,
    help="Metric, for all kinds but curves, histograms, corruptions.  [default: the first]",
)
@output_option("The plot, a .pdf, .png or .svg file.")
def plot(runs: Path, kind: str, metric: str | None, categories: tuple[str, ...], output: Path) -> None:
    """Plot a run store for papers and slides.

    RUNS is the output of padim-zoo bench. Curves have a panel per configuration and a line per category. roc and pr are
    those of images; pro, pixel-roc and pixel-pr those of pixels. corruptions needs runs with --corruptions.
    Needs padim-zoo[report].
    """
    from padim_zoo.bench.store import RunStore
    from padim_zoo.metrics.metric import DEFAULT_METRIC
    from padim_zoo.report.plots import plot as draw

    draw(RunStore(runs), kind, output, metric=metric or DEFAULT_METRIC, categories=categories)
    click.echo(f"{kind} in {output}")
