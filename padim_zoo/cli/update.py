"""``padim-zoo update``: a saved detector and more normal images to a detector that has seen both."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.settings import PanelCommand, setting_options
from padim_zoo.core.errors import InputError


@click.command(cls=PanelCommand)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The new model.  [default: MODEL, replaced]")
@click.option("--keep-threshold", is_flag=True, help="Leave the threshold as it is.")
@setting_options("update")
def update(
    model: Path,
    images: tuple[str, ...],
    output: Path | None,
    keep_threshold: bool,
    fpr: float | None,
    batch_size: int,
    device: str,
) -> None:
    """Continue the fit of a saved detector with more normal images, without the old ones.

    IMAGES are files, folders or globs. A PaDiM model must hold what it knows of its images: the dual form does (fitted
    on no more images than it has dimensions), others if they were saved by padim-zoo fit --resumable.

    The threshold is made anew where the model holds all samples. Where it does not, the old one goes, for it rests on
    scores of another model; --keep-threshold keeps it all the same.
    """
    from padim_zoo.data.files import normal_image_files
    from padim_zoo.detectors import load

    target = output or model
    if target.is_dir():
        raise InputError(f"--output {target} is a folder: expected a file name, e.g. {target / 'model.safetensors'}")
    if keep_threshold and fpr is not None:
        raise InputError("--keep-threshold and --fpr exclude each other: give one of them")
    paths = normal_image_files(images)
    detector: Any = load(model, device=device, batch_size=batch_size)
    if not hasattr(detector, "partial_fit"):
        raise InputError(f"{type(detector).__name__} cannot continue a fit: fit it again on all images")
    before, resumable = detector.calibration_, detector.statistics_ is not None
    started = time.perf_counter()
    detector.partial_fit(paths)
    why_none = "the model had none" if before is None and fpr is None else ""
    if keep_threshold:
        detector.calibration_ = before
    elif not why_none:
        rate = before.false_alarm_rate if fpr is None else fpr
        try:
            detector.calibrate(false_alarm_rate=rate)
        except InputError as error:
            if fpr is not None:
                raise
            why_none = str(error)
    detector.save(target, resumable=resumable)

    click.echo(f"added      {len(paths)} normal images, {detector.n_images_} in all")
    if detector.threshold_ is None:
        click.echo(f"threshold  none: {why_none}")
    else:
        click.echo(f"threshold  {detector.threshold_:.4g}{', as before' if keep_threshold else ''}")
    click.echo(f"seconds    {time.perf_counter() - started:.1f}")
    click.echo(f"saved      {target}, {target.stat().st_size / 1e6:.1f} MB")
