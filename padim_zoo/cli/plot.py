"""``padim-zoo plot``: a run store to a picture."""

from __future__ import annotations

from pathlib import Path

import click

from padim_zoo.errors import InputError

KINDS = ("roc", "pr", "pareto", "folds", "histogram")


@click.command()
@click.argument("runs", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What to draw.")
@click.option("--figure", default="image_auroc", show_default=True, help="What pareto and folds show, e.g. aupro.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A .pdf, .png or .svg file.")
def plot(runs: Path, kind: str, figure: str, output: Path) -> None:
    """Draw a picture of a run store for papers and slides.

    RUNS is the output of padim-zoo bench. Curves are those of image scores; a panel per configuration, a line per
    category. Needs padim-zoo[report].
    """
    from padim_zoo.bench.store import RunStore
    from padim_zoo.report.plots import plot as draw

    if not runs.is_dir():
        raise InputError(f"{runs} is not a folder: expected a run store, the output of padim-zoo bench")
    draw(RunStore(runs), kind, output, figure=figure)
    click.echo(f"{kind} in {output}")
