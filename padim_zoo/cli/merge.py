"""``padim-zoo merge``: detectors fitted on parts of the normal images to the one that all of them make."""

from __future__ import annotations

from collections.abc import Iterator
from filecmp import cmp
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.options import MODEL, check_target, output_option
from padim_zoo.cli.settings import setting_command
from padim_zoo.cli.table import show_rows, size_of
from padim_zoo.cli.thresholds import regions_of, show_prices, threshold_of, try_to_calibrate
from padim_zoo.core.errors import InputError
from padim_zoo.statistics.tree import reduce_in_tree

if TYPE_CHECKING:
    from padim_zoo.detectors.calibration import Calibration


def _merged(one: tuple[Path, Any], other: tuple[Path, Any]) -> tuple[Path, Any]:
    """The model of the images of two, under the name of the first."""
    try:
        return one[0], one[1].merge(other[1])
    except InputError as error:
        raise InputError(f"{other[0]} cannot join {one[0]}: {error}") from None


def _why_without_samples(detector: Any) -> str:
    """Why a merged PaDiM has no threshold, and what to do; empty if it may have one."""
    from padim_zoo.detectors.padim import PaDiM
    from padim_zoo.detectors.padim_file import most_images_of_samples
    from padim_zoo.statistics.moments import Moments

    moments = detector.statistics_
    if not isinstance(detector, PaDiM) or not isinstance(moments, Moments):
        return ""
    most = max(most_images_of_samples(detector, moments), 1)
    return (
        f"some models hold moments; a file holds samples of up to {most} of these images, so cut the "
        f"{detector.n_images_} into {-(-detector.n_images_ // most)} shards, or give one to calibrate --threshold"
    )


@setting_command("merge")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@output_option("The merged model, one file.")
@click.option("--resumable", is_flag=True, help="Save what padim-zoo update and merge need.")
def merge(models: tuple[Path, ...], output: Path, fpr: float | None, resumable: bool) -> None:
    """Merge models of padim or subspace that were fitted on parts of the normal images, as if fitted on all of them.

    The MODELS must have the same backbone, weights, layers, transform and seed. Each must hold the statistics of its
    images: save it with padim-zoo fit --resumable, unless it has at least as many dimensions as images. The estimator
    is that of the first. Images that several models know by their pixels count once.

    The merged model has a threshold if all models hold their samples. Models of many images hold moments instead, which
    are smaller. The rate is the one that all models share, or else the usual one. Groups of images stay together.
    """
    if len(models) < 2:
        raise InputError(f"nothing to merge with {models[0]}: expected two or more models")
    check_target(output)
    from padim_zoo.detectors.loading import load

    asked_rates: set[float | None] = set()
    calibrations: list[Calibration] = []

    def opened() -> Iterator[tuple[Path, Any]]:
        nonlocal resumable
        kind: type | None = None
        for number, model in enumerate(models):
            part: Any = load(model)
            for earlier in models[:number]:
                if cmp(earlier, model, shallow=False):
                    raise InputError(f"{model} is the same model as {earlier}: its images would count twice")
            if not hasattr(part, "merge") or kind not in (None, type(part)):
                raise InputError(f"{model} is a {type(part).__name__}: only padim, or only subspace, can merge")
            kind = type(part)
            asked_rates.add(None if part.calibration_ is None else part.calibration_.asked_rate)
            calibrations.extend([] if part.calibration_ is None else [part.calibration_])
            resumable = resumable or part.statistics_ is not None
            yield model, part

    _, detector = reduce_in_tree(opened(), _merged)
    why_none = _why_without_samples(detector)
    if not why_none:
        why_none = try_to_calibrate(detector, fpr, asked_rates.pop() if len(asked_rates) == 1 else None)
    elif fpr is not None:
        raise InputError(f"there is no threshold for --fpr {fpr:g}: {why_none}")
    note = ""
    if detector.calibration_ is not None and calibrations:
        rules = {(one.region_rate, one.region_area, one.decides) for one in calibrations}
        if len(rules) == 1:
            detector.calibration_ = detector.calibration_.with_decisions_of(calibrations[0])
        else:
            note = "the models differ in their region thresholds, so this one has none: padim-zoo calibrate sets one"
    detector.save(output, resumable=resumable)
    calibration = detector.calibration_
    threshold = f"none: {why_none}" if calibration is None else threshold_of(calibration)
    regions = {} if calibration is None else regions_of(calibration)
    show_rows(detector.describe_fit() | {"threshold": threshold, **regions, "saved": size_of(output)})
    if note:
        click.echo(f"note: {note}")
    if missing := detector.learned_images_.missing_shards:
        first = missing[0]
        click.echo(f"Warning: {len(missing)} of {first.count} shards are missing, the first is {first}", err=True)
    if calibration is not None:
        show_prices(calibration)
