"""``padim-zoo update``: a saved detector and more normal images to a detector that has seen both."""

from __future__ import annotations

import time
from pathlib import Path

import click

from padim_zoo.cli.candidates import complete_files
from padim_zoo.cli.inputs import load_detector
from padim_zoo.cli.options import MODEL, hold, new_model_options, target_of
from padim_zoo.cli.settings import setting_command
from padim_zoo.cli.table import show_rows, size_of
from padim_zoo.cli.thresholds import (
    groups_of_new_images,
    kept_of_samples,
    regions_of,
    show_prices,
    threshold_of,
    try_to_calibrate,
)
from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.core.provenance import tell_data
from padim_zoo.detectors.description import coverage_of, describe_work


@setting_command("update")
@click.argument("model", type=MODEL)
@click.argument("images", nargs=-1, shell_complete=complete_files, required=True)
@new_model_options()
@click.option("--keep-threshold", is_flag=True, help="Keep the old threshold.")
def update(
    model: Path,
    images: tuple[str, ...],
    output: Path | None,
    in_place: bool,
    keep_threshold: bool,
    fpr: float | None,
    batch_size: int,
    device: str,
    memory: int | None,
    stream: str | int,
    runtime: str | None,
    skip_unreadable: bool,
) -> None:
    """Add normal images to a saved detector, without the old ones.

    IMAGES are files, folders or globs. A PaDiM model must hold the statistics of its images: save it with
    padim-zoo fit --resumable, unless it has at least as many dimensions as images.

    Images that the model already knows by their pixels are skipped. If all are, the threshold stays.

    Copies among IMAGES count once, and the groups of the fit stay. Its --groups apply to IMAGES too; without them, near
    copies of learned images are not found.

    The threshold is set anew if the model holds all samples, for the rate that MODEL was asked for, or the usual one.
    If not, the old one is dropped, since it came from the scores of another model; --keep-threshold keeps it. A
    subspace model never holds samples.

    The model is written to --output, or replaced with --in-place.
    """
    from padim_zoo.data.files import normal_image_files
    from padim_zoo.data.unreadable import naming_unreadable, readable_images

    target = target_of(model, output, in_place)
    if keep_threshold and fpr is not None:
        raise InputError("--keep-threshold and --fpr exclude each other: give one of them")
    paths = normal_image_files(images)
    paths, skipped = readable_images(paths) if skip_unreadable else (paths, [])
    tell_data(paths, skipped)
    hold(target)
    detector = load_detector(model, device=device, batch_size=batch_size, memory=memory, stream=stream, runtime=runtime)
    if not hasattr(detector, "partial_fit"):
        raise InputError(f"{type(detector).__name__} cannot continue a fit: fit it again on all images")
    before, resumable = detector.calibration_, detector.statistics_ is not None
    images_before = detector.n_images_
    started = time.perf_counter()
    with naming_unreadable(paths):
        detector.partial_fit(paths, **groups_of_new_images(detector, paths))
    added = detector.n_images_ - images_before
    keep_threshold = keep_threshold or (not added and fpr is None)
    why_none = "the model had none" if before is None and fpr is None else ""
    if keep_threshold:
        detector.calibration_ = before
    elif not why_none:
        why_none = try_to_calibrate(detector, fpr, before and before.asked_rate)
        if detector.calibration_ is not None:
            detector.calibration_ = detector.calibration_.with_decisions_of(before)
    detector.save(target, resumable=resumable)

    calibration = detector.calibration_
    threshold = f"none: {why_none}"
    if calibration is not None and keep_threshold and added:
        threshold = f"{calibration.threshold:.4g}, as before; it promises nothing of the new model"
    elif calibration is not None:
        threshold = f"{threshold_of(calibration)}{', as before' if keep_threshold else ''}"
    of_all = number_of(len(paths), "normal image")
    new = of_all if added == len(paths) else f"{added} new of {of_all}"
    seen = coverage_of(detector, paths)
    rows = {"added": f"{new}, {detector.n_images_} in all"} | describe_work(detector, seen)
    rows |= {"note": seen.note} if seen.note is not None else {}
    rows |= {"threshold": threshold, **({} if calibration is None else regions_of(calibration))}
    if resumable:
        rows |= kept_of_samples(detector)
    show_rows(rows | {"seconds": f"{time.perf_counter() - started:.1f}", "saved": size_of(target)})
    if calibration is not None and not (keep_threshold and added):
        show_prices(calibration)
