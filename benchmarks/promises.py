"""Hold the promises of thresholds to account: false alarms of new normal images, over random splits.

    python benchmarks/promises.py --data DIR

All normal images of a category are cut at random, near copies together, into some to fit and others to try. Each split
is fitted and calibrated as ``padim-zoo fit`` does. A row says which share of the images to try was a false alarm, by
the image threshold and by the region threshold, against the rate that was promised. The interval comes of drawing
groups of images anew, for the splits share images. "splits" is the share of splits whose exact interval holds the
promised rate, or lies below it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from script_options import LEAST_SIDE

from padim_zoo import registry
from padim_zoo.cli.table import show_table
from padim_zoo.core.errors import InputError
from padim_zoo.data.duplicates import find_duplicates
from padim_zoo.data.sample import Category
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.metrics.region_peak import region_peaks
from padim_zoo.metrics.thresholds import rate_with_interval

DRAWS = 2000
"""Of groups of images, for the interval of a mean over splits."""


@dataclass(frozen=True)
class Promise:
    """What a threshold promises: a rate, by image or by regions of a least area."""

    rate: float
    area: int | None = None

    def __str__(self) -> str:
        return "image" if self.area is None else f"region, {self.area} px"


@dataclass(frozen=True)
class Tried:
    """What one promise came to on one split: alarms of normal images (m,), whose indices these are, and detections."""

    images: np.ndarray
    alarms: np.ndarray
    detections: float


def split(groups: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images to fit, which are about a share of them, and of the others; no group is in both."""
    order = rng.permutation(np.unique(groups))
    sizes = np.array([(groups == group).sum() for group in order])
    to_fit = np.isin(groups, order[np.cumsum(sizes) <= share * len(groups)])
    return np.flatnonzero(to_fit), np.flatnonzero(~to_fit)


def interval(groups: np.ndarray, tried: Sequence[Tried], rng: np.random.Generator) -> tuple[float, float, float]:
    """The mean over splits, and the 95 % interval of it where groups of images are drawn anew."""
    names = np.unique(groups)
    shares = np.full((len(tried), len(names)), np.nan)
    for row, one in zip(shares, tried, strict=True):
        place = np.searchsorted(names, groups[one.images])
        counts = np.bincount(place, minlength=len(names))
        alarms = np.bincount(place, one.alarms, minlength=len(names))
        row[counts > 0] = alarms[counts > 0] / counts[counts > 0]
    there = ~np.isnan(shares)
    values = np.nan_to_num(shares)

    def mean(weights: np.ndarray) -> float:
        return float(np.nanmean((values @ weights) / (there @ weights)))

    drawn = [mean(rng.multinomial(len(names), np.full(len(names), 1 / len(names)))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return mean(np.ones(len(names))), float(low), float(high)


def try_category(
    category: Category, name: str, promises: Sequence[Promise], splits: int, share: float, resize: int, seed: int
) -> Iterator[dict[str, str]]:
    """One row for each promise."""
    samples = [*category.train, *(sample for sample in category.test if not sample.label)]
    paths, anomalous = [one.path for one in samples], [one.path for one in category.test if one.label]
    groups = find_duplicates(paths).groups
    detector = registry.detectors.create(name, resize=resize, precision="float32")
    normal_features = detector.extract_normal(paths)
    features = detector.extract(anomalous)
    rng = np.random.default_rng(seed)
    tried: dict[Promise, list[Tried]] = {promise: [] for promise in promises}
    fitted, missed = [], set()
    for _ in range(splits):
        fit, others = split(groups, share, rng)
        fitted.append(len(np.unique(groups[fit])))
        detector.fit_features(normal_features.images(fit))
        scored: list[dict[int | None, np.ndarray]] = []
        for promise in promises:
            try:
                calibration = detector.calibration_ or detector.calibrate(groups=groups[fit])
                threshold = (
                    calibration.at_rate(promise.rate).threshold
                    if promise.area is None
                    else calibration.for_regions(promise.rate, promise.area).region_threshold
                )
            except InputError:
                missed.add(promise)
                continue
            assert threshold is not None
            scored = scored or [
                scores_of(detector.predict_features(one), promises)
                for one in (normal_features.images(others), features)
            ]
            alarms, detections = (scores[promise.area] > threshold for scores in scored)
            tried[promise].append(Tried(others, alarms, float(detections.mean())))
    for promise in promises:
        if promise in missed:
            continue
        mean, low, high = interval(groups, tried[promise], rng)
        intervals = [rate_with_interval(one.alarms) for one in tried[promise]]
        holds = [bounds["low"] <= promise.rate for bounds in intervals if bounds is not None]
        yield {
            "images": category.name,
            "fit on": f"{np.mean(fitted):.0f}",
            "decides": str(promise),
            "promised": f"{promise.rate:g}",
            "false alarms": f"{mean:.3f} ({low:.3f} to {high:.3f})",
            "splits": f"{np.mean(holds):.2f}",
            "detections": f"{np.mean([one.detections for one in tried[promise]]):.3f}",
        }


def scores_of(prediction: Prediction, promises: Sequence[Promise]) -> dict[int | None, np.ndarray]:
    """What is compared with thresholds (n,), by the least area of regions; None for the image threshold."""
    areas = sorted({promise.area for promise in promises if promise.area is not None})
    if prediction.maps is None:
        return {None: prediction.scores}
    peaks = np.array([region_peaks(one, areas) for one in prediction.maps])
    return {None: prediction.scores, **dict(zip(areas, peaks.T, strict=True))}


def categories(root: Path) -> Iterator[Category]:
    """The categories below a folder, in the layout of MVTec AD."""
    for folder in sorted({train.parent for train in root.rglob("train") if (train / "good").is_dir()}):
        yield registry.datasets.create("folder", root=folder.parent).load(folder.name)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--detector", default="padim", show_default=True)
@click.option("--splits", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.75,
    show_default=True,
    help="Of the normal images, to fit on.",
)
@click.option("--most", type=click.IntRange(0), default=0, help="Normal images to take, at most; 0 for all.")
@click.option("--resize", type=click.IntRange(LEAST_SIDE), default=128, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(data: Path, detector: str, splits: int, share: float, most: int, resize: int, seed: int) -> None:
    """Print the table."""
    promises = [Promise(rate, area) for rate in (0.05, 0.1) for area in (None, 16, 64)]
    rows: list[dict[str, str]] = []
    for category in categories(data):
        if most:
            category = _fewer(category, most, seed)
        start = time.perf_counter()
        rows += try_category(category, detector, promises, splits, share, resize, seed)
        click.echo(f"{category.name}: {time.perf_counter() - start:.0f} s", err=True)
    show_table(rows)


def _fewer(category: Category, most: int, seed: int) -> Category:
    """A category with some of its normal images, drawn at random."""
    normal = [*category.train, *(sample for sample in category.test if not sample.label)]
    order = np.random.default_rng(seed).permutation(len(normal))[:most]
    anomalous = tuple(sample for sample in category.test if sample.label)
    return Category(category.dataset, category.name, tuple(normal[index] for index in sorted(order)), anomalous)


if __name__ == "__main__":
    main()
