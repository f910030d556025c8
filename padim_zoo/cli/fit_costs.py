"""What ``padim-zoo fit --dry-run`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from padim_zoo.bench.fit_cost import IMAGES_OF_POSES, USUAL_ROUNDS, FitCost
from padim_zoo.cli.table import show_json, show_table
from padim_zoo.core.memory import amount
from padim_zoo.core.numbers import number_of
from padim_zoo.core.progress import duration


def show_costs(model: Any, costs: Sequence[FitCost], paths: Sequence[Path], *, trims: bool, as_json: bool) -> None:
    """Print what a fit would cost, in each way to fit it."""
    if as_json:
        show_json([cost.to_dict() for cost in costs])
        return
    click.echo(f"A fit on {number_of(len(paths), 'image')}, measured on one of them and on small parts of it:\n")
    show_table(
        [
            {
                "way": cost.way,
                "patches": cost.patches,
                "dimensions": cost.dimensions,
                "time": duration(cost.seconds),
                "memory": amount(cost.memory_mb * 1e6),
                "on disk meanwhile": amount(cost.scratch_mb * 1e6) if cost.scratch_mb else "nothing",
                "model": amount(cost.model_mb * 1e6),
                "": "recommended" if cost.recommended else "",
            }
            for cost in costs
        ]
    )
    if trims:
        click.echo(f"note: the time is for {USUAL_ROUNDS} rounds of --trim; it ends when the same images go again")
    if getattr(model, "register", None) is not None:
        some = min(len(paths), IMAGES_OF_POSES)
        click.echo(f"note: poses were learned of {number_of(some, 'image')} here: with all, the margin may be larger")
    if getattr(model, "roi", None) is not None:
        click.echo("note: all patches are counted, also those that --roi leaves out of the model")
    if not any(cost.recommended for cost in costs):
        click.echo("note: no way gives a small model: resize the images (--resize 1024)")
