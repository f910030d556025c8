"""Metrics that got worse by more than is allowed and more than is noise. docs/ci-check.md states the rules."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from padim_zoo.bench.check.finding import Findings, Regression
from padim_zoo.bench.check.matching import Pair
from padim_zoo.bench.check.noise import Interval, bootstrap_differences, repetition_interval, resampling_interval
from padim_zoo.metrics import METRICS, Metric


class PairedMetrics:
    """The metrics of a row now and before, and how sure their difference is.

    Parameters
    ----------
    pair : Pair
        Both runs were done.
    """

    def __init__(self, pair: Pair) -> None:
        self.name = pair.name
        self._now, self._before = pair.now, pair.before
        self._replicates: dict[str, np.ndarray] | None = None

    def before(self, metric: str) -> float:
        """Mean over the folds of the baseline."""
        return float(np.mean(self._before.metrics[metric]))

    def now(self, metric: str) -> float:
        """Mean over the fresh folds."""
        return float(np.mean(self._now.metrics[metric]))

    def fold_differences(self, metric: str) -> list[float]:
        """Now less before, fold by fold."""
        return [a - b for a, b in zip(self._now.metrics[metric], self._before.metrics[metric], strict=True)]

    @property
    def replicates(self) -> dict[str, np.ndarray]:
        """Differences of image metrics on resampled images. Rows on the same images share their draws."""
        if self._replicates is None:
            assert self._now.scores is not None
            assert self._before.scores is not None
            images = f"{self._now.config['dataset']}/{self._now.config['category']}"
            self._replicates = bootstrap_differences(
                self._now.scores, self._before.scores, seed=zlib.crc32(images.encode())
            )
        return self._replicates


def compare_accuracy(name: str, rows: Sequence[PairedMetrics], limit: float, findings: Findings) -> None:
    """Compare one row, or the mean of the rows of one configuration.

    Parameters
    ----------
    name : str
        What the findings are told of.
    rows : sequence of PairedMetrics
    limit : float
        How much worse a metric may be.
    findings : Findings
        Where they go.
    """
    for metric in METRICS.values():
        if metric.checked:
            _compare_metric(name, metric, rows, limit, findings)


def _compare_metric(name: str, metric: Metric, rows: Sequence[PairedMetrics], limit: float, findings: Findings) -> None:
    what = metric.name
    defined = [row for row in rows if not math.isnan(row.now(what) - row.before(what))]
    if len(rows) == 1 and not defined and not math.isnan(rows[0].before(what)):
        was = f"{rows[0].before(what):.4f}"
        findings.regressions.append(Regression(name, what, was, "–", "", "it is no longer defined"))
    if not defined:
        return
    before = float(np.mean([row.before(what) for row in defined]))
    now = float(np.mean([row.now(what) for row in defined]))
    if metric.sign * (before - now) <= limit:
        return
    interval = _interval(metric, defined)
    worse = "drop" if metric.better == "high" else "rise"
    if interval is None:
        reason = f"{worse} over {limit:g}; no interval"
    else:
        spread = f"95 % of the difference: {interval[0]:+.4f} to {interval[1]:+.4f}"
        if max(metric.sign * bound for bound in interval) >= 0:
            findings.note(f"{name}: {what} {before:.4f} → {now:.4f} is within the noise ({spread})")
            return
        reason = f"{worse} over {limit:g}; {spread}"
    findings.regressions.append(Regression(name, what, f"{before:.4f}", f"{now:.4f}", f"{now - before:+.4f}", reason))


def _interval(metric: Metric, rows: Sequence[PairedMetrics]) -> Interval | None:
    """The interval of the difference, now less before."""
    name = metric.name
    if metric.level == "image":
        return resampling_interval(np.mean([row.replicates[name] for row in rows], axis=0))
    if len(rows) == 1:
        return repetition_interval(rows[0].fold_differences(name))
    return repetition_interval([row.now(name) - row.before(name) for row in rows])
