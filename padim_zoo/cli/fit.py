"""``padim-zoo fit``: normal images to a saved detector."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.candidates import complete_files
from padim_zoo.cli.inputs import DATASET, load_category, open_roi
from padim_zoo.cli.options import PATH, check_target, refuse_same
from padim_zoo.cli.settings import asked_parameters, asked_settings, setting_command
from padim_zoo.cli.suspects import check_suspects, tell_cost, write_suspects
from padim_zoo.cli.table import show_rows, size_of
from padim_zoo.cli.thresholds import (
    groups_of_images,
    kept_of_samples,
    named_groups,
    regions_of,
    remember_names,
    show_prices,
    threshold_of,
    try_to_calibrate,
)
from padim_zoo.core.errors import InputError
from padim_zoo.core.provenance import tell_data
from padim_zoo.detectors.config import CALIBRATION_FOLDS
from padim_zoo.detectors.description import coverage_of, describe_work

NAMED = 5
"""Trimmed images whose names are printed."""


@setting_command("fit")
@click.argument("images", nargs=-1, shell_complete=complete_files)
@click.option("-o", "--output", type=PATH, help="The model, a safetensors file; --dry-run writes none.")
@click.option("--dry-run", is_flag=True, help="Estimate time, memory and model size; fit nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON instead of a table.")
@click.option(
    "--folds", type=click.IntRange(2), default=CALIBRATION_FOLDS, show_default=True, help="Folds for the threshold."
)
@click.option("--report", type=PATH, metavar="FILE", help="Contact sheet of images that may not be normal.")
@click.option("--resumable", is_flag=True, help="Save what padim-zoo update and merge need.")
def fit(
    images: tuple[str, ...],
    output: Path | None,
    dry_run: bool,
    as_json: bool,
    folds: int,
    report: Path | None,
    model_dtype: str | None,
    resumable: bool,
    detector: str,
    groups: str | None,
    fpr: float | None,
    region_fpr: float | None,
    region_area: int | None,
    decide_by: str | None,
    cache: bool,
    cluster: str | None,
    insecure: bool,
    shard: str | None,
    trim: float | str | None,
    **settings: Any,
) -> None:
    """Fit a detector on normal images and save it.

    IMAGES are files, folders or globs of normal images. Or use the training images of a data set: give --dataset,
    --data-root and --category, or --normal.

    The threshold is set from out-of-fold scores of the normal images: at most a share --fpr of new normal images will
    exceed it. --region-fpr promises the same of regions on their maps.

    --cluster sends images through the backbone on the workers of a Dask cluster. --shard 3/16 fits on a fixed sixteenth
    of the images: the model has no threshold, and padim-zoo merge of all shards gives that of one fit.

    --dry-run reads one image and fits small parts of it. It estimates the cost of the fit, and of cheaper ways.
    """
    import numpy as np

    from padim_zoo.data.files import normal_image_files
    from padim_zoo.data.sample import protocol_of
    from padim_zoo.data.unreadable import naming_unreadable, readable_images
    from padim_zoo.metrics.conformal import conformal_threshold

    asked = asked_settings()
    if bool(images) == any(name in asked for name in DATASET):
        sources = "both images and a data set" if images else "neither images nor a data set"
        raise InputError(f"{sources} to fit on: expected normal IMAGES, or --data-root DIR, or --normal DIR")
    if as_json and not dry_run:
        raise InputError("--json prints what --dry-run tells: add --dry-run")
    if output is None and not dry_run:
        raise InputError("no file to write: give --output FILE, or --dry-run to see what the fit costs")
    if output is not None:
        check_target(output)
    if report is not None:
        check_target(report, "suspects.html", "--report")
    for option, given in {"--shard": shard is not None, "--resumable": resumable}.items():
        if given and settings["trim_patches"] is not None:
            raise InputError(f"{option} excludes --trim-patches: a file does not record which patches were left out")
    if shard is not None:
        if trim is not None:
            raise InputError("--shard excludes --trim: trim a fit on all images, or look at data suspects before")
        _refuse_with_shard(cluster, fpr, region_fpr, region_area, decide_by)
    dataset = None
    skipped: list[Path] = []
    if images:
        paths = normal_image_files(images)
        if settings["skip_unreadable"]:
            paths, skipped = readable_images(paths)
    else:
        dataset, category = load_category({"cache": cache, **settings})
        paths, skipped = [sample.path for sample in category.train], list(category.left_out)
    refuse_same({"--output": output, "--report": report}, paths)
    tell_data(paths, skipped)
    open_roi(settings["roi"])  # which refuses what does not exist
    for rate in (fpr, region_fpr):
        if rate is not None:
            conformal_threshold(np.zeros(len(paths)), rate)  # which refuses a rate that so few cannot promise
    from padim_zoo.bench.build import detector_parameters
    from padim_zoo.cache.caches import Caches
    from padim_zoo.cache.fingerprints import FingerprintsInMemory
    from padim_zoo.detectors.calibration import Calibration
    from padim_zoo.detectors.p_value_maps import note_on_tail
    from padim_zoo.registry import detectors

    parameters = asked_parameters()
    protocol = None if dataset is None else protocol_of(dataset)
    if protocol is not None and not {"resize", "crop"} & parameters.keys():
        names = {"resize", "crop"} & detector_parameters(detector)
        parameters |= {name: getattr(protocol, name) for name in names}
    started = time.perf_counter()
    model: Any = detectors.create(detector, **parameters)
    Calibration.imagined(len(paths), model.makes_maps).with_decision(region_fpr, region_area, decide_by)
    if report is not None or trim is not None:
        check_suspects(model, paths)
    if trim is not None:
        from padim_zoo.detectors.trimming import check_count

        check_count(len(paths), trim)
    if output is None or dry_run:
        from padim_zoo.bench.fit_cost import USUAL_ROUNDS, fit_costs
        from padim_zoo.cli.fit_costs import show_costs

        rounds = USUAL_ROUNDS * (trim is not None) + (report is not None)
        costs = fit_costs(model, paths, folds, rounds, resumable=resumable)
        show_costs(model, costs, paths, trims=trim is not None, as_json=as_json)
        return
    fingerprints = FingerprintsInMemory(len(paths))
    caches = Caches.usual() if cache else Caches()
    model.cache = caches if caches.fingerprints is not None else Caches(fingerprints=fingerprints)
    doubts: Sequence[str] = ()
    trimmed: dict[str, str] = {}
    if shard is not None:
        from padim_zoo.cli.distributed_fit import fit_shard

        with naming_unreadable(paths):
            paths = fit_shard(model, paths, shard, groups)
        tell_data(paths, skipped, shard)
        threshold, resumable = "none: padim-zoo merge of all shards makes it", True
    else:
        # What cannot be is refused before the work. Copies are looked for after it, by the fingerprints of its images.
        named = named_groups(model, paths, groups)
        if isinstance(trim, float) and groups is None:  # which groups a trim leaves is not known before
            named = named[: len(paths) - round(trim * len(paths))]
        for rate in (fpr, region_fpr):
            if rate is not None:
                conformal_threshold(np.zeros(len(named)), rate, named)
        why_none = None
        if cluster is None:
            with naming_unreadable(paths):
                model.fit(paths)
        else:
            from padim_zoo.cli.distributed_fit import fit_on_cluster

            why_none = fit_on_cluster(
                model,
                paths,
                parameters,
                cluster,
                insecure=insecure,
                needs_samples=trim is not None or report is not None,
                pattern=groups,
                rate=fpr,
                folds=folds,
            )
        if trim is not None:
            trimmed, paths = _trim(model, paths, trim)
            tell_data(paths, skipped)
        held_together, doubts = groups_of_images(model, paths, groups)
        if why_none is None:
            remember_names(model, paths, groups)
            why_none = try_to_calibrate(model, fpr, folds=folds, **held_together)
        threshold = f"none: {why_none}"
    fingerprints.clear()
    regions = {}
    if model.calibration_ is not None:
        model.calibration_ = model.calibration_.with_decision(region_fpr, region_area, decide_by)
        threshold, regions = threshold_of(model.calibration_), regions_of(model.calibration_)
    elif region_fpr is not None or decide_by is not None:
        raise InputError(f"there is no region threshold: {threshold.removeprefix('none: ')}")
    calibration = model.calibration_
    seconds = time.perf_counter() - started
    # Detectors of plugins may take neither option.
    options = {"resumable": resumable or None, "dtype": model_dtype}
    model.save(output, **{name: value for name, value in options.items() if value is not None})
    saved = describe_work(model, coverage_of(model, paths)) | trimmed
    saved |= {"threshold": threshold, **regions, **(kept_of_samples(model) if resumable and shard is None else {})}
    saved |= {"seconds": f"{seconds:.1f}", "saved": size_of(output)}
    show_rows(model.describe_fit() | saved)
    if calibration is not None:
        show_prices(calibration)
    if report is not None:
        click.echo(write_suspects(model, paths, report))
    of_tail = note_on_tail(model)
    for note in (*doubts, *model.notes_of_fit(), *([] if of_tail is None else [of_tail])):
        click.echo(f"note: {note}")


def _trim(model: Any, paths: Sequence[Path], share: float | str) -> tuple[dict[str, str], list[Path]]:
    """Take images out of a fit; what there is to say of that, and the images that stay."""
    from padim_zoo.detectors.trimming import trim_images

    out = trim_images(model, share, paths, tell_cost)
    if not len(out.images):
        return {"trimmed": f"none of {len(paths)} images"}, list(paths)
    names = ", ".join(str(paths[image]) for image in sorted(out.images, key=lambda image: -out.scores[image])[:NAMED])
    more = f" and {len(out.images) - NAMED} more" if len(out.images) > NAMED else ""
    promise = f"the threshold promises its rate and {out.share:.3g} more, for normal images like these"
    row = f"{len(out.images)} of {len(paths)} images ({names}{more}); {promise}"
    gone = set(out.images.tolist())
    return {"trimmed": row}, [path for number, path in enumerate(paths) if number not in gone]


def _refuse_with_shard(
    cluster: str | None, fpr: float | None, region_fpr: float | None, region_area: int | None, decide_by: str | None
) -> None:
    if cluster is not None or fpr is not None:
        raise InputError("--shard excludes --cluster and --fpr: a shard has no threshold; give --fpr to merge")
    if region_fpr is not None or region_area is not None or decide_by is not None:
        raise InputError(
            "a shard has no threshold for --region-fpr, --region-area and --decide-by: give them to calibrate after "
            "the merge"
        )
