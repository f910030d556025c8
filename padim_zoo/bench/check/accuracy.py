"""Figures that fell by more than is allowed and more than is noise. docs/ci-check.md states the rules."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from padim_zoo.bench.check.finding import Findings, Regression
from padim_zoo.bench.check.matching import Pair
from padim_zoo.bench.check.noise import (
    IMAGE_FIGURES,
    Interval,
    bootstrap_differences,
    percentile_interval,
    repetition_interval,
)
from padim_zoo.bench.leaderboard import DEVIATING


class PairedFigures:
    """The figures of a row now and before, and how sure their difference is.

    Parameters
    ----------
    pair : Pair
        Both runs were done.
    """

    def __init__(self, pair: Pair) -> None:
        self.name = pair.name
        self._now, self._before = pair.now, pair.before
        self._replicates: dict[str, np.ndarray] | None = None

    def before(self, figure: str) -> float:
        """Mean over the folds of the baseline."""
        return float(np.mean(self._before.figures[figure]))

    def now(self, figure: str) -> float:
        """Mean over the fresh folds."""
        return float(np.mean(self._now.figures[figure]))

    def fold_differences(self, figure: str) -> list[float]:
        """Now less before, fold by fold."""
        return [a - b for a, b in zip(self._now.figures[figure], self._before.figures[figure], strict=True)]

    @property
    def replicates(self) -> dict[str, np.ndarray]:
        """Differences of image figures on resampled images. Rows on the same images share their draws."""
        if self._replicates is None:
            assert self._now.scores is not None
            assert self._before.scores is not None
            images = f"{self._now.config['dataset']}/{self._now.config['category']}"
            self._replicates = bootstrap_differences(
                self._now.scores, self._before.scores, seed=zlib.crc32(images.encode())
            )
        return self._replicates


def compare_accuracy(name: str, rows: Sequence[PairedFigures], limit: float, findings: Findings) -> None:
    """Compare one row, or the mean of the rows of one configuration.

    Parameters
    ----------
    name : str
        What the findings are told of.
    rows : sequence of PairedFigures
    limit : float
        The drop that is allowed.
    findings : Findings
        Where they go.
    """
    for figure in DEVIATING:
        defined = [row for row in rows if not math.isnan(row.now(figure) - row.before(figure))]
        if len(rows) == 1 and not defined and not math.isnan(rows[0].before(figure)):
            was = f"{rows[0].before(figure):.4f}"
            findings.regressions.append(Regression(name, figure, was, "–", "", "it is no longer defined"))
        if not defined:
            continue
        before = float(np.mean([row.before(figure) for row in defined]))
        now = float(np.mean([row.now(figure) for row in defined]))
        if before - now <= limit:
            continue
        interval = _interval(figure, defined)
        change = f"{now - before:+.4f}"
        if interval is None:
            reason = f"drop over {limit:g}; no interval"
        elif interval[1] < 0:
            reason = f"drop over {limit:g}; 95 % of the difference {interval[0]:+.4f} to {interval[1]:+.4f}"
        else:
            findings.note(
                f"{name}: {figure} {before:.4f} → {now:.4f} is within the noise "
                f"(95 % of the difference: {interval[0]:+.4f} to {interval[1]:+.4f})"
            )
            continue
        findings.regressions.append(Regression(name, figure, f"{before:.4f}", f"{now:.4f}", change, reason))


def _interval(figure: str, rows: Sequence[PairedFigures]) -> Interval | None:
    if figure in IMAGE_FIGURES:
        return percentile_interval(np.mean([row.replicates[figure] for row in rows], axis=0))
    if len(rows) == 1:
        return repetition_interval(rows[0].fold_differences(figure))
    return repetition_interval([row.now(figure) - row.before(figure) for row in rows])
