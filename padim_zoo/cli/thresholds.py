"""The threshold of a model that a command makes: groups of its images, how it is set, and what is printed of it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.table import show_table
from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.detectors.description import unpromised

if TYPE_CHECKING:
    import numpy as np


def try_to_calibrate(detector: Any, asked: float | None, usual: float | None = None, **options: Any) -> str:
    """Set the threshold, and say why there is none, if so; for a false-alarm rate that was asked for there has to be.

    Raises
    ------
    InputError
        If there is no threshold for the rate that was asked for.
    """
    try:
        detector.calibrate(false_alarm_rate=usual if asked is None else asked, **options)
    except InputError as error:
        if asked is not None:
            raise
        return str(error)
    return ""


def named_groups(detector: Any, paths: Sequence[Path], pattern: str | None) -> np.ndarray:
    """The groups (n,), int64, that a pattern names; without one, each image is one.

    Raises
    ------
    InputError
        If a pattern is given to a detector that takes no groups, or does not match.
    """
    import numpy as np

    from padim_zoo.data.duplicates import groups_by_pattern

    if pattern is None:
        return np.arange(len(paths))
    if not _takes_groups(detector):
        raise InputError(f"{type(detector).__name__} takes no groups for its threshold: leave out --groups")
    return groups_by_pattern(paths, pattern)


def _takes_groups(detector: Any) -> bool:
    return "groups" in inspect.signature(detector.calibrate).parameters


def groups_of_images(detector: Any, paths: Sequence[Path], pattern: str | None) -> tuple[dict[str, Any], list[str]]:
    """The groups of normal images as an option of :func:`try_to_calibrate`, none for a detector that takes none.

    And notes of copies that may have been missed, where no pattern names them.
    """
    from padim_zoo.data.duplicates import find_duplicates, groups_of

    if not _takes_groups(detector):
        return {}, []
    kept = detector.fingerprints
    notes = [] if pattern is not None else find_duplicates(paths, kept).doubts()
    return {"groups": groups_of(paths, pattern, kept)}, notes


def remember_names(detector: Any, paths: Sequence[Path], pattern: str | None) -> None:
    """Have a fitted detector keep which group a pattern names for each image, for ``update`` and ``merge``."""
    from padim_zoo.data.image_groups import ImageGroups

    if pattern is not None and _takes_groups(detector):
        groups = ImageGroups.of(paths, pattern, detector.fingerprints)
        detector.learned_images_ = detector.learned_images_.with_groups(groups)


def groups_of_new_images(detector: Any, paths: Sequence[Path]) -> dict[str, Any]:
    """The groups of more normal images as an option of ``partial_fit``, by the pattern that the detector keeps."""
    from padim_zoo.data.image_groups import ImageGroups

    if "groups" not in inspect.signature(detector.partial_fit).parameters:
        return {}
    groups = detector.learned_images_.all_groups
    return {"groups": ImageGroups.of(paths, groups.pattern, detector.fingerprints)}


def different_images(n: int, n_groups: int) -> str:
    """The number of images, and of different ones where some are copies."""
    return number_of(n, "image") if n == n_groups else f"{n_groups} different of {number_of(n, 'image')}"


def threshold_of(calibration: Any) -> str:
    """A threshold and the rate that it promises, and whether it is the least, which was not asked for."""
    from padim_zoo.detectors.config import FALSE_ALARM_RATE

    rate = calibration.false_alarm_rate
    if rate is None:
        return f"{calibration.threshold:.4g}, set by hand"
    least = ""
    if not calibration.rate_asked and rate > FALSE_ALARM_RATE:
        count = different_images(len(calibration.scores), calibration.n_groups)
        least = f" (the least that {count} can promise)"
    return f"{calibration.threshold:.4g}, for a false-alarm rate of at most {rate:.3g}{least}"


def kept_of_samples(detector: Any) -> dict[str, str]:
    """The row of a resumable model that was just fitted on samples, where its file does not hold them."""
    from padim_zoo.detectors.padim import PaDiM
    from padim_zoo.detectors.padim_file import loses_samples
    from padim_zoo.statistics.samples import Samples

    if isinstance(detector, PaDiM):
        lost, why = loses_samples(detector), "moments, fewer bytes than samples"
    else:
        samples = isinstance(getattr(detector, "statistics_", None), Samples)
        lost, why = samples and not detector.files_hold_samples, "moments and no samples"
    return {"keeps": f"{why}: the next update or forget can make no threshold"} if lost else {}


def regions_of(calibration: Any) -> dict[str, str]:
    """The rows on the region threshold, if there is one, and on which threshold decides."""
    rows = {}
    if calibration.region_threshold is not None:
        rows["regions"] = (
            f"above {calibration.region_threshold:.4g}, for a rate of at most {calibration.region_rate:.3g}, from "
            f"{number_of(calibration.region_area, 'pixel')} of the map"
        )
    return rows | {"decides": f"{calibration.decides} threshold"}


def show_prices(calibration: Any) -> None:
    """Print what other false-alarm rates would give, where the threshold rests on scores."""
    if not (rows := price_rows(calibration)):
        return
    count = different_images(len(calibration.scores), calibration.n_groups)
    click.echo(f"\nThe threshold is based on {count}. Other rates would give:\n")
    show_table(rows)
    if (note := unpromised(calibration)) is not None:
        click.echo(f"note: {note}")


def price_rows(calibration: Any) -> list[dict[str, Any]]:
    """The threshold that each false-alarm rate would give, for :func:`~padim_zoo.cli.table.show_table`."""
    return [
        {"false-alarm rate": f"{rate:.3g}", "threshold": threshold}
        for rate, threshold in calibration.thresholds().items()
    ]
