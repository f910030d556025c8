"""``padim-zoo forget``: a saved detector to one that has never seen some of its images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.candidates import complete_files
from padim_zoo.cli.options import MODEL, hold, new_model_options, target_of
from padim_zoo.cli.settings import setting_command
from padim_zoo.cli.table import show_rows, size_of
from padim_zoo.cli.thresholds import regions_of, threshold_of, try_to_calibrate
from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of


@setting_command("forget")
@click.argument("model", type=MODEL)
@click.argument("images", nargs=-1, shell_complete=complete_files, required=True)
@new_model_options()
def forget(
    model: Path,
    images: tuple[str, ...],
    output: Path | None,
    in_place: bool,
    fpr: float | None,
    batch_size: int,
    device: str,
) -> None:
    """Take normal images out of a saved detector, as if it had never seen them.

    IMAGES are files, folders or globs of images of its fit. The model knows them by their pixels. A PaDiM model must
    hold the statistics of its images: save it with padim-zoo fit --resumable, unless it has at least as many
    dimensions as images.

    The threshold is set anew if the model holds all samples. If not, it is removed.

    Cached data of these files is removed too. The model is written to --output, or replaced with --in-place.
    """
    from padim_zoo.data.files import image_files

    target = target_of(model, output, in_place)
    paths = image_files(images)
    from padim_zoo.cache.caches import Caches
    from padim_zoo.detectors.loading import load

    hold(target)
    detector: Any = load(model, device=device, batch_size=batch_size)
    if not hasattr(detector, "forget"):
        raise InputError(f"{type(detector).__name__} cannot forget images: fit it again without them")
    before, resumable, n_before = detector.calibration_, detector.statistics_ is not None, detector.n_images_
    started = time.perf_counter()
    detector.forget(paths)
    why_none = "the model had none" if before is None and fpr is None else ""
    if not why_none and (error := try_to_calibrate(detector, fpr, before and before.asked_rate)):
        why_none = f"removed: {error}"
    regions = {}
    if detector.calibration_ is not None:
        try:
            detector.calibration_ = detector.calibration_.with_decisions_of(before)
            regions = regions_of(detector.calibration_)
        except InputError as error:
            regions = {"regions": f"threshold removed, for {error}; the image threshold decides"}
    detector.save(target, resumable=resumable)
    removed = Caches.usual().forget(paths)

    calibration = detector.calibration_
    threshold = f"none: {why_none}" if calibration is None else f"{threshold_of(calibration)}, made anew"
    gone = n_before - detector.n_images_
    show_rows(
        {
            "forgotten": f"{number_of(gone, 'normal image')}, {detector.n_images_} left",
            "threshold": threshold,
            **regions,
            "caches": f"{removed} entries removed",
            "seconds": f"{time.perf_counter() - started:.1f}",
            "saved": size_of(target),
        }
    )
