"""``padim-zoo fit``: normal images to a saved detector."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import click

from padim_zoo.bench.settings import settings_of
from padim_zoo.cli.candidates import complete_files
from padim_zoo.cli.options import (
    DATASET,
    blocks_of,
    coverage_of,
    groups_of_images,
    load_category,
    output_option,
    refuse_folder,
    remember_names,
    show_prices,
    show_rows,
    size_of,
    threshold_of,
    try_to_calibrate,
)
from padim_zoo.cli.settings import asked_settings, setting_command
from padim_zoo.core.errors import InputError
from padim_zoo.core.provenance import tell_data


@setting_command("fit")
@click.argument("images", nargs=-1, shell_complete=complete_files)
@output_option("The model, a safetensors file.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Folds for the threshold.")
@click.option("--resumable", is_flag=True, help="Save what padim-zoo update and merge need.")
def fit(
    images: tuple[str, ...],
    output: Path,
    folds: int,
    model_dtype: str | None,
    resumable: bool,
    detector: str,
    groups: str | None,
    fpr: float | None,
    cache: bool,
    **settings: Any,
) -> None:
    """Fit a detector on normal images and save it.

    IMAGES are files, folders or globs of normal images. Or use the training images of a data set: give --dataset,
    --data-root and --category, or --normal.

    The threshold is set from out-of-fold scores of the normal images: at most a share --fpr of new normal images will
    exceed it.
    """
    import numpy as np

    from padim_zoo.bench.build import detector_parameters
    from padim_zoo.bench.readers import PROTOCOL
    from padim_zoo.data.files import normal_image_files
    from padim_zoo.data.sample import protocol_of
    from padim_zoo.data.unreadable import find_unreadable, left_out_note, naming_unreadable
    from padim_zoo.metrics.conformal import conformal_threshold
    from padim_zoo.registry import detectors

    asked = asked_settings()
    if bool(images) == any(name in asked for name in DATASET):
        sources = "both images and a data set" if images else "neither images nor a data set"
        raise InputError(f"{sources} to fit on: expected IMAGES of normal things, or --data-root DIR, or --normal DIR")
    refuse_folder(output)
    dataset = None
    skipped: list[Path] = []
    if images:
        paths = normal_image_files(images)
        if settings["skip_unreadable"]:
            skipped = list(find_unreadable(paths))
            if skipped:
                warnings.warn(left_out_note(skipped, len(paths)), stacklevel=2)
            paths = [path for path in paths if path not in skipped]
    else:
        dataset, category = load_category(settings)
        paths, skipped = [sample.path for sample in category.train], list(category.left_out)
    tell_data(paths, skipped)
    from padim_zoo.cache.caches import Caches

    parameters = {row.one: asked[row.one] for row in settings_of("fit") if row.parameter and row.one in asked}
    parameters = {name: value for name, value in parameters.items() if value != PROTOCOL}
    protocol = None if dataset is None else protocol_of(dataset)
    if protocol is not None and not {"resize", "crop"} & parameters.keys():
        names = {"resize", "crop"} & detector_parameters(detector)
        parameters |= {name: getattr(protocol, name) for name in names}
    started = time.perf_counter()
    model: Any = detectors.create(detector, **parameters)
    if cache:
        model.cache = Caches.usual()
    # What cannot be is refused before the work. Else copies are looked for after it, which has kept their fingerprints.
    if fpr is not None or groups is not None:
        held_together, doubts = groups_of_images(model, paths, groups)
        if fpr is not None:
            conformal_threshold(np.zeros(len(paths)), fpr, held_together.get("groups", np.arange(len(paths))))
        with naming_unreadable(paths):
            model.fit(paths)
    else:
        with naming_unreadable(paths):
            model.fit(paths)
        held_together, doubts = groups_of_images(model, paths, groups)
    remember_names(model, paths, groups)
    threshold = f"none: {try_to_calibrate(model, fpr, folds=folds, **held_together)}"
    if (calibration := model.calibration_) is not None:
        threshold = threshold_of(calibration)
    seconds = time.perf_counter() - started
    # Detectors of plugins may take neither option.
    options = {"resumable": resumable or None, "dtype": model_dtype}
    model.save(output, **{name: value for name, value in options.items() if value is not None})
    seen = coverage_of(model, paths)
    saved = {"transform": str(model.transform), "looks at": seen.shares.removeprefix("looks at ")}
    saved |= {"streams": f"in {blocks}"} if (blocks := blocks_of(model)) else {}
    saved |= {"threshold": threshold, "seconds": f"{seconds:.1f}", "saved": size_of(output)}
    show_rows(model.describe_fit() | saved)
    if calibration is not None:
        show_prices(calibration)
    for note in (*doubts, *model.notes_of_fit()):
        click.echo(f"note: {note}")
