"""``padim-zoo fit``: normal images to a saved detector."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from padim_zoo.bench.settings import settings_of
from padim_zoo.cli.options import DATASET, load_category
from padim_zoo.cli.settings import PanelCommand, asked_settings, setting_options
from padim_zoo.core.errors import InputError


@click.command(cls=PanelCommand)
@click.argument("images", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The model, a safetensors file.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Folds that give the threshold.")
@click.option(
    "--model-dtype",
    type=click.Choice(("float16", "float32")),
    help="Type of the factors in the file.  [default: float16, where that is accurate enough]",
)
@click.option("--resumable", is_flag=True, help="Save what it takes to go on fitting with more images.")
@setting_options("fit")
@click.pass_context
def fit(
    ctx: click.Context,
    /,
    images: tuple[str, ...],
    output: Path,
    folds: int,
    model_dtype: str | None,
    resumable: bool,
    detector: str,
    fpr: float | None,
    cache: bool,
    **settings: Any,
) -> None:
    """Fit a detector on normal images and save it.

    IMAGES are files, folders or globs of normal images. Or options name a data set, whose training images are taken:
    --dataset, --data-root and --category, or --normal.

    The threshold comes from the scores that the normal images get when they are left out of the fit, fold by fold: at
    most the share --fpr of new normal images will exceed it.
    """
    from padim_zoo.cache.caches import Caches
    from padim_zoo.data.files import normal_image_files
    from padim_zoo.detectors.config import FALSE_ALARM_RATE
    from padim_zoo.registry import detectors

    asked = asked_settings(ctx)
    if bool(images) == any(name in asked for name in DATASET):
        sources = "both images and a data set" if images else "neither images nor a data set"
        raise InputError(f"{sources} to fit on: expected IMAGES of normal things, or --data-root DIR, or --normal DIR")
    if output.is_dir():
        raise InputError(f"--output {output} is a folder: expected a file name, e.g. {output / 'model.safetensors'}")
    paths = normal_image_files(images) if images else [sample.path for sample in load_category(settings).train]
    _refuse_rate(fpr, len(paths))

    parameters = {row.one: asked[row.one] for row in settings_of("fit") if row.parameter and row.one in asked}
    started = time.perf_counter()
    model: Any = detectors.create(detector, **parameters)
    if cache:
        model.cache = Caches.usual()
    model.fit(paths)
    calibration, why_none = None, ""
    try:
        calibration = model.calibrate(false_alarm_rate=fpr, folds=folds)
    except InputError as error:
        if fpr is not None:
            raise
        why_none = str(error)
    seconds = time.perf_counter() - started
    options: dict[str, Any] = {"resumable": True} if resumable else {}
    if model_dtype is not None:
        options["dtype"] = model_dtype
    model.save(output, **options)

    for title, text in model.describe_fit().items():
        click.echo(f"{title:<10} {text}")
    if calibration is None:
        click.echo(f"threshold  none: {why_none}")
    else:
        rate = calibration.false_alarm_rate
        least = "" if fpr or rate <= FALSE_ALARM_RATE else f" (the least that {len(paths)} images can promise)"
        click.echo(f"threshold  {calibration.threshold:.4g}, for a false-alarm rate of at most {rate:.3g}{least}")
    click.echo(f"seconds    {seconds:.1f}")
    click.echo(f"saved      {output}, {output.stat().st_size / 1e6:.1f} MB")


def _refuse_rate(rate: float | None, count: int) -> None:
    """Refuse a false-alarm rate that ``count`` images cannot promise, before the work instead of after it."""
    if rate is not None:
        import numpy as np

        from padim_zoo.metrics.conformal import conformal_threshold

        conformal_threshold(np.zeros(count), rate)
