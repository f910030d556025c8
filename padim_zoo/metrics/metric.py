"""The METRICS table: one row per metric, from which commands, leaderboard, report and check take what they show.

A metric's name stands nowhere else in the package. To add one, add its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from padim_zoo.metrics.confidence import PairedDifference, bootstrap_interval, paired_difference
from padim_zoo.metrics.per_image_overlap import mean_of_images, percentile_of_images
from padim_zoo.metrics.ranked_test_set import UNDEFINED, RankedTestSet
from padim_zoo.metrics.ranking import auroc, average_precision
from padim_zoo.metrics.region_overlap import QUARTERS, aupro, aupro_of_quarter, detected_regions, spro
from padim_zoo.metrics.thresholds import f1_at, false_positive_rate_at

LOW_LIMIT = 0.05
"""The false positive rate up to which the stricter regional metrics count, as in MVTec AD 2 and MVTec LOCO."""


Compute = Callable[[RankedTestSet], float]


@dataclass(frozen=True)
class Metric:
    """A number that says how well a prediction agrees with the ground truth.

    Attributes
    ----------
    name : str
        Its column in the leaderboard, and its key in documents and JSON.
    title : str
        Its heading; the first word tells it from other metrics.
    level : str
        What it is computed on: ``"image"``, ``"pixel"`` or ``"region"``. One of images depends on the order of the
        image scores alone, and on the image threshold if that decides it.
    compute : callable
        The value on a ranked test set; NaN where it is undefined.
    better : str
        Whether a ``"high"`` or a ``"low"`` value is better.
    range : tuple of float
        The lowest and the highest value that it can have.
    main : bool
        Shown by default, where there is no room for all.
    checked : bool
        Whether ``check`` fails when it gets worse.
    curve : str, optional
        The curve under which it is the area, of those of :mod:`padim_zoo.metrics.curves`.
    decided_by : str, optional
        The threshold that decides it, ``"image threshold"`` or ``"pixel threshold"``; None if all thresholds count.
    quarter : int, optional
        The quarter of the regions that it is of, from 1, the smallest, to 4; None if it is of all.
    defined_by : str, optional
        The setting that changes what it measures: values under two of its values are never averaged or compared.
    published : str, optional
        What the table of published figures calls it.
    interval : callable, optional
        Its confidence interval, of labels (N,) and scores (K, N) of K folds.
    paired : callable, optional
        The difference between two detectors, B − A, of labels (N,) and the scores (K, N) of A and of B.
    per_image : callable, optional
        The value of each image (N,), NaN where it has none, of which the metric is the mean. Runs keep them, and two
        runs are compared on them.
    """

    name: str
    title: str
    level: Literal["image", "pixel", "region"]
    compute: Compute
    better: Literal["high", "low"] = "high"
    range: tuple[float, float] = (0.0, 1.0)
    main: bool = False
    checked: bool = True
    curve: str | None = None
    decided_by: Literal["image threshold", "pixel threshold"] | None = None
    quarter: int | None = None
    defined_by: str | None = None
    published: str | None = None
    interval: Callable[[np.ndarray, np.ndarray], tuple[float, float]] | None = None
    paired: Callable[[np.ndarray, np.ndarray, np.ndarray], PairedDifference] | None = None
    per_image: Callable[[RankedTestSet], np.ndarray] | None = None

    @property
    def of_image_order(self) -> bool:
        """Whether the order of the image scores decides it, so that ``check`` can compute it on resampled images."""
        return self.level == "image" and self.decided_by is None

    @property
    def needs_masks(self) -> bool:
        """Whether it is undefined without maps and masks."""
        return self.level != "image"

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.better == "high" else -1


def _aupimo_percentile(percent: int) -> Compute:
    return lambda test_set: percentile_of_images(test_set.aupimo_of_images, percent)


def _aupro_of_quarter(quarter: int) -> Compute:
    return lambda test_set: aupro_of_quarter(test_set.pixels, test_set.regions, quarter)


def _detected_regions(quarter: int | None = None) -> Compute:
    return lambda t: detected_regions(t.pixels, t.regions, t.pixel_threshold, quarter)


# fmt: off
_ROWS = (
    Metric("image_auroc", "image AUROC", "image", lambda t: auroc(t.images), main=True, curve="roc",
           published="image_auroc", interval=bootstrap_interval, paired=paired_difference),
    Metric("image_ap", "image AP", "image", lambda t: average_precision(t.images), curve="pr"),
    Metric("image_f1", "image F1-max (best case)", "image", lambda t: t.best_f1_of_images[0]),
    Metric("class_f1", "ClassF1", "image", lambda t: f1_at(t.images, t.image_threshold), checked=False,
           decided_by="image threshold"),
    Metric("pixel_auroc", "pixel AUROC", "pixel", lambda t: auroc(t.pixels), main=True, curve="pixel_roc",
           published="pixel_auroc"),
    Metric("pixel_ap", "pixel AP", "pixel", lambda t: average_precision(t.pixels), curve="pixel_pr"),
    Metric("pixel_f1", "pixel F1-max (best case)", "pixel", lambda t: t.best_f1_of_pixels[0]),
    Metric("seg_f1", "SegF1", "pixel", lambda t: f1_at(t.pixels, t.pixel_threshold), decided_by="pixel threshold"),
    Metric("pixel_false_alarms", "pixel false alarms", "pixel",
           lambda t: false_positive_rate_at(t.pixels, t.pixel_threshold), better="low", checked=False,
           decided_by="pixel threshold"),
    Metric("aupro", "AUPRO", "region", lambda t: aupro(t.pixels, t.regions), main=True, curve="pro",
           published="aupro_30"),
    Metric("aupro_05", "AUPRO.05", "region", lambda t: aupro(t.pixels, t.regions, limit=LOW_LIMIT), main=True),
    Metric("spro_05", "sPRO.05", "region", lambda t: spro(t.pixels, t.regions, limit=LOW_LIMIT)),
    Metric("aupimo", "AUPIMO", "region", lambda t: mean_of_images(t.aupimo_of_images), main=True,
           defined_by="aupimo_bounds", per_image=lambda t: t.aupimo_of_images),
    *(Metric(f"aupimo_p{percent}", f"AUPIMO P{percent}", "region", _aupimo_percentile(percent), checked=False,
             defined_by="aupimo_bounds")
      for percent in (10, 33, 50)),
    Metric("region_detections", "regions detected", "region", _detected_regions(), checked=False,
           decided_by="pixel threshold"),
    *(Metric(f"aupro_q{quarter}", f"AUPRO, quarter {quarter}", "region", _aupro_of_quarter(quarter), checked=False,
             quarter=quarter)
      for quarter in QUARTERS),
    *(Metric(f"region_detections_q{quarter}", f"regions detected, quarter {quarter}", "region",
             _detected_regions(quarter), checked=False, decided_by="pixel threshold", quarter=quarter)
      for quarter in QUARTERS),
)
# fmt: on

METRICS = {metric.name: metric for metric in _ROWS}
"""All metrics by their names. The first one is what is shown where there is room for one."""

DEFAULT_METRIC = next(iter(METRICS))


def main_metrics() -> list[str]:
    """Names of the metrics that are shown by default."""
    return [metric.name for metric in METRICS.values() if metric.main]


def per_image_array(name: str) -> str:
    """The array of a run that holds what a metric has of each image, (folds, N)."""
    return f"{name}_per_image"


def title_of(name: str) -> str:
    """The title of a metric; of another column its name in words."""
    return METRICS[name].title if name in METRICS else name.replace("_", " ")


def is_undefined_note(note: str, names: Iterable[str]) -> bool:
    """Whether a note says why one of the metrics is undefined."""
    return note.startswith(tuple(f"{title_of(name)}{UNDEFINED}" for name in names))


def confidence_intervals(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """The bounds of every metric that has an interval, as ``NAME_low`` and ``NAME_high``.

    Parameters
    ----------
    labels : ndarray (N,)
        0 for normal images, 1 for anomalous ones.
    scores : ndarray (N,) or (K, N)
        Scores of the images, by each of K folds.
    """
    bounds: dict[str, float] = {}
    for metric in METRICS.values():
        if metric.interval is not None:
            bounds[f"{metric.name}_low"], bounds[f"{metric.name}_high"] = metric.interval(labels, scores)
    return bounds
