"""``padim-zoo fit``: normal images to a saved detector."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from padim_zoo.cli.options import (
    DatasetChoice,
    amount_of_memory,
    cache_option,
    comma_separated,
    dataset_options,
    pixels,
    plugin_option,
)
from padim_zoo.core.errors import InputError


@click.command()
@click.argument("images", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The model, a safetensors file.")
@dataset_options
@click.option("--detector", default="padim", show_default=True, help="padim-zoo list detectors.")
@click.option("--backbone", help="padim-zoo list backbones.  [default: builtin]")
@click.option("--weights", metavar="default|none|PATH", help="Weights of the backbone.  [default: default]")
@click.option("--layers", callback=comma_separated, help="Layers, comma-separated.  [default: the backbone's]")
@click.option("--estimator", help="padim-zoo list estimators.  [default: full]")
@click.option("--n-components", type=click.IntRange(1), help="Dimensions of an embedding.  [default: the backbone's]")
@click.option("--reduction", help="How: leading, random or orthogonal.  [default: the backbone's]")
@click.option("--resize", callback=pixels, help="Shorter side: N, HEIGHTxWIDTH or none.  [default: 256]")
@click.option("--crop", callback=pixels, help="Center crop: N, HEIGHTxWIDTH or none.  [default: 224]")
@click.option("--sigma", type=click.FloatRange(0), help="Blur of the map in pixels, 0 for none.  [default: 4]")
@click.option("--augment", metavar="A,B", help="Fit on other views too: flip,rotate(10),brightness(0.1) …")
@click.option("--passes", type=click.IntRange(2), help="Views of each image with --augment.  [default: 4]")
@click.option("--tta", metavar="A,B", help="Score several views of an image: flip,rotate(5) …")
@click.option("--roi", metavar="MASK|DIR", help="Pixels that count: a mask for all images, or a folder of masks.")
@click.option("--seed", type=int, help="Of that draw.  [default: 0]")
@click.option("--batch-size", type=click.IntRange(1), help="Images at once in the backbone.  [default: 32]")
@click.option("--device", help="auto, cpu or cuda.  [default: auto]")
@click.option("--precision", help="Of the backbone: float32, bfloat16 or auto.  [default: auto]")
@click.option(
    "--memory",
    metavar="4GB",
    callback=amount_of_memory,
    help="For the fit's statistics.  [default: half of what is free]",
)
@click.option(
    "--model-dtype",
    type=click.Choice(("float16", "float32")),
    help="Type of the factors in the file.  [default: float16, where that is accurate enough]",
)
@click.option("--resumable", is_flag=True, help="Save what it takes to go on fitting with more images.")
@cache_option
@click.option("--fpr", type=float, help="False-alarm rate of the threshold.  [default: 0.01, or the least possible]")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Folds that give the threshold.")
@plugin_option
@click.pass_context
def fit(
    ctx: click.Context,
    /,
    images: tuple[str, ...],
    output: Path,
    source: DatasetChoice,
    detector: str,
    fpr: float | None,
    folds: int,
    resumable: bool,
    model_dtype: str | None,
    cache: bool,
    **parameters: Any,
) -> None:
    """Fit a detector on normal images and save it.

    IMAGES are files, folders or globs of normal images. Or options name a data set, whose training images are taken:
    --dataset, --data-root and --category, or --normal.

    The threshold comes from the scores that the normal images get when they are left out of the fit, fold by fold: at
    most the share --fpr of new normal images will exceed it.
    """
    from padim_zoo.cache.caches import Caches
    from padim_zoo.data.files import normal_image_files
    from padim_zoo.registry import detectors

    if bool(images) == (source != DatasetChoice()):
        found = "both images and a data set" if images else "neither images nor a data set"
        raise InputError(f"{found} to fit on: expected IMAGES of normal things, or --data-root DIR, or --normal DIR")
    if output.is_dir():
        raise InputError(f"--output {output} is a folder: expected a file name, e.g. {output / 'model.safetensors'}")
    paths = normal_image_files(images) if images else [sample.path for sample in source.load().train]
    _refuse_rate(fpr, len(paths))

    chosen = {
        name: value
        for name, value in parameters.items()
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    started = time.perf_counter()
    model: Any = detectors.create(detector, **chosen)
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
        least = "" if fpr or rate <= 0.01 else f" (the least that {len(paths)} images can promise)"
        click.echo(f"threshold  {calibration.threshold:.4g}, for a false-alarm rate of at most {rate:.3g}{least}")
    click.echo(f"seconds    {seconds:.1f}")
    click.echo(f"saved      {output}, {output.stat().st_size / 1e6:.1f} MB")


def _refuse_rate(rate: float | None, count: int) -> None:
    """Refuse a false-alarm rate that ``count`` images cannot promise, before the work instead of after it."""
    if rate is not None:
        import numpy as np

        from padim_zoo.metrics.conformal import conformal_threshold

        conformal_threshold(np.zeros(count), rate)
