"""``padim-zoo merge``: detectors fitted on parts of the normal images to the one that all of them make."""

from __future__ import annotations

from filecmp import cmp
from pathlib import Path

import click

from padim_zoo.cli.settings import PanelCommand, setting_options
from padim_zoo.core.errors import InputError


@click.command(cls=PanelCommand)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The merged model, one file.")
@click.option("--resumable", is_flag=True, help="Save what it takes to go on, or to merge again.")
@setting_options("merge")
def merge(models: tuple[Path, ...], output: Path, fpr: float | None, resumable: bool) -> None:
    """Merge PaDiM models fitted on parts of the normal images: the model that one fit on all of them gives.

    The MODELS have to agree in backbone, weights, layers, transform and draw, and hold what they know of their images:
    the dual form does (fitted on no more images than it has dimensions), others if they were saved by padim-zoo fit
    --resumable. The estimator is that of the first.

    A threshold is made where all models hold their samples, and none where one holds moments.
    """
    from padim_zoo.detectors import load
    from padim_zoo.detectors.padim import PaDiM

    if len(models) < 2:
        raise InputError(f"there is nothing to merge {models[0]} with: expected two or more models")
    if output.is_dir():
        raise InputError(f"--output {output} is a folder: expected a file name, e.g. {output / 'model.safetensors'}")
    detector: PaDiM | None = None
    for number, model in enumerate(models):
        part = load(model)
        for earlier in models[:number]:
            if cmp(earlier, model, shallow=False):
                raise InputError(f"{model} is the same model as {earlier}: its images would count twice")
        if not isinstance(part, PaDiM):
            raise InputError(f"{model} is a {type(part).__name__}: only PaDiM models can be merged")
        resumable = resumable or part.statistics_ is not None
        try:
            detector = part if detector is None else detector.merge(part)
        except InputError as error:
            raise InputError(f"{model} cannot join {models[0]}: {error}") from None
    assert detector is not None
    why_none = ""
    try:
        detector.calibrate(false_alarm_rate=fpr)
    except InputError as error:
        if fpr is not None:
            raise
        why_none = str(error)
    detector.save(output, resumable=resumable)

    for title, text in detector.describe_fit().items():
        click.echo(f"{title:<10} {text}")
    click.echo(f"threshold  {f'none: {why_none}' if why_none else f'{detector.threshold_:.4g}'}")
    click.echo(f"saved      {output}, {output.stat().st_size / 1e6:.1f} MB")
