"""``padim-zoo plot``: a run store to a picture."""

from __future__ import annotations

from pathlib import Path

import click

from padim_zoo.cli.candidates import complete_metrics
from padim_zoo.cli.options import PATH, output_option
from padim_zoo.cli.settings import setting_command
from padim_zoo.core.errors import InputError

KINDS = (
    *("roc", "pr", "pro", "pixel-roc", "pixel-pr"),
    *("pareto", "folds", "histogram", "learning-curve", "heat-table", "corruptions"),
)


@setting_command("plot")
@click.argument("runs", type=PATH, required=False)
@click.option("--kind", type=click.Choice(KINDS), help="What to plot of RUNS.")
@click.option(
    "--history", type=PATH, metavar="FILE", help="Plot what padim-zoo check --history wrote, instead of RUNS."
)
@click.option(
    "--metric",
    metavar="COLUMN",
    shell_complete=complete_metrics,
    help="Metric, for all kinds but curves, histograms, corruptions.  [default: the first]",
)
@output_option("The plot, a .pdf, .png or .svg file.")
def plot(
    runs: Path | None,
    kind: str | None,
    history: Path | None,
    metric: str | None,
    categories: tuple[str, ...],
    output: Path,
) -> None:
    """Plot a run store for papers and slides.

    RUNS is the output of padim-zoo bench. Curves have a panel per configuration and a line per category. roc and pr are
    those of images; pro, pixel-roc and pixel-pr those of pixels. corruptions needs runs with --corruptions.
    --history draws accuracy, time and memory over commits. Needs padim-zoo[report].
    """
    if history is not None:
        if runs is not None or kind is not None or metric is not None or categories:
            raise InputError("--history is drawn by itself: leave out RUNS, --kind, --metric and --categories")
        from padim_zoo.report.history_plot import plot_history

        plot_history(history, output)
        click.echo(f"history in {output}")
        return
    if runs is None or kind is None:
        raise click.UsageError(f"nothing to plot: give RUNS and --kind ({', '.join(KINDS)}), or --history FILE")
    from padim_zoo.bench.store import RunStore
    from padim_zoo.metrics.metric import DEFAULT_METRIC
    from padim_zoo.report.plots import plot as draw

    draw(RunStore(runs), kind, output, metric=metric or DEFAULT_METRIC, categories=categories)
    click.echo(f"{kind} in {output}")
