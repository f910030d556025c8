"""The METRICS table: one row per metric, from which commands, leaderboard, report and check take what they show.

A metric's name stands nowhere else in the package. To add one, add its row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from padim_zoo.metrics.confidence import PairedDifference, bootstrap_interval, paired_difference
from padim_zoo.metrics.ranked_test_set import RankedTestSet
from padim_zoo.metrics.ranking import auroc, average_precision
from padim_zoo.metrics.region_overlap import aupro


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
        image scores alone, so that ``check`` can compute it on resampled images.
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
    published : str, optional
        What the table of published figures calls it.
    interval : callable, optional
        Its confidence interval, of labels (N,) and scores (K, N) of K folds.
    paired : callable, optional
        The difference between two detectors, B − A, of labels (N,) and the scores (K, N) of A and of B.
    """

    name: str
    title: str
    level: Literal["image", "pixel", "region"]
    compute: Callable[[RankedTestSet], float]
    better: Literal["high", "low"] = "high"
    range: tuple[float, float] = (0.0, 1.0)
    main: bool = False
    checked: bool = True
    curve: str | None = None
    published: str | None = None
    interval: Callable[[np.ndarray, np.ndarray], tuple[float, float]] | None = None
    paired: Callable[[np.ndarray, np.ndarray, np.ndarray], PairedDifference] | None = None

    @property
    def needs_masks(self) -> bool:
        """Whether it is undefined without maps and masks."""
        return self.level != "image"

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.better == "high" else -1


# fmt: off
_ROWS = (
    Metric("image_auroc", "image AUROC", "image", lambda t: auroc(t.images), main=True, curve="roc",
           published="image_auroc", interval=bootstrap_interval, paired=paired_difference),
    Metric("image_ap", "image AP", "image", lambda t: average_precision(t.images), curve="pr"),
    Metric("image_f1", "image F1-max", "image", lambda t: t.best_f1_of_images[0]),
    Metric("pixel_auroc", "pixel AUROC", "pixel", lambda t: auroc(t.pixels), main=True, curve="pixel_roc",
           published="pixel_auroc"),
    Metric("pixel_ap", "pixel AP", "pixel", lambda t: average_precision(t.pixels), curve="pixel_pr"),
    Metric("pixel_f1", "pixel F1-max", "pixel", lambda t: t.best_f1_of_pixels[0]),
    Metric("aupro", "AUPRO", "region", lambda t: aupro(t.pixels, t.region_ids, limit=t.aupro_limit), main=True,
           curve="pro", published="aupro_30"),
)
# fmt: on

METRICS = {metric.name: metric for metric in _ROWS}
"""All metrics by their names. The first one is what is shown where there is room for one."""

DEFAULT_METRIC = next(iter(METRICS))


def main_metrics() -> list[str]:
    """Names of the metrics that are shown by default."""
    return [metric.name for metric in METRICS.values() if metric.main]


def title_of(name: str) -> str:
    """The title of a metric; of another column its name in words."""
    return METRICS[name].title if name in METRICS else name.replace("_", " ")


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
