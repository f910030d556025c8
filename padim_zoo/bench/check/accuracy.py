"""Metrics that got worse by more than is allowed and more than is noise. docs/ci-check.md states the rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from padim_zoo.bench.check.finding import Findings
from padim_zoo.bench.check.matching import Pair
from padim_zoo.bench.check.noise import Interval, repetition_interval, resampling_interval
from padim_zoo.metrics import METRICS, Metric


def compare_accuracy(name: str, pairs: Sequence[Pair], limit: float, findings: Findings) -> None:
    """Compare one row, or the mean of the rows of one configuration.

    Parameters
    ----------
    name : str
        What the findings are told of.
    pairs : sequence of Pair
        Both runs of each were done.
    limit : float
        How much worse a metric may be.
    findings : Findings
        Where they go.
    """
    for metric in METRICS.values():
        if metric.checked:
            _compare_metric(name, metric, pairs, limit, findings)


def _compare_metric(name: str, metric: Metric, pairs: Sequence[Pair], limit: float, findings: Findings) -> None:
    means = np.array([pair.means(metric.name) for pair in pairs])  # (pairs, 2): before, now
    defined = ~np.isnan(means).any(axis=1)
    if not defined.any():
        if len(pairs) == 1 and not math.isnan(means[0, 0]):
            findings.regress(name, metric.name, f"{means[0, 0]:.4f}", "–", "", "it is no longer defined")
        return
    before, now = means[defined].mean(axis=0).tolist()
    if metric.sign * (before - now) <= limit:
        return
    interval = _interval(metric, [pair for pair, usable in zip(pairs, defined, strict=True) if usable])
    worse = "drop" if metric.better == "high" else "rise"
    if interval is None:
        reason = f"{worse} over {limit:g}; no interval"
    else:
        spread = f"95 % of the difference: {interval[0]:+.4f} to {interval[1]:+.4f}"
        if max(metric.sign * bound for bound in interval) >= 0:
            findings.note(f"{name}: {metric.name} {before:.4f} → {now:.4f} is within the noise ({spread})")
            return
        reason = f"{worse} over {limit:g}; {spread}"
    findings.regress(name, metric.name, f"{before:.4f}", f"{now:.4f}", f"{now - before:+.4f}", reason)


def _interval(metric: Metric, pairs: Sequence[Pair]) -> Interval | None:
    """The interval of the difference, now less before."""
    if metric.of_image_order:
        return resampling_interval(np.mean([pair.replicates[metric.name] for pair in pairs], axis=0))
    if len(pairs) == 1:
        return repetition_interval(np.subtract(pairs[0].now.metrics[metric.name], pairs[0].before.metrics[metric.name]))
    return repetition_interval(np.diff([pair.means(metric.name) for pair in pairs]).ravel())
