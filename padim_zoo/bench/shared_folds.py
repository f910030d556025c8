"""Folds of runs that differ in their estimator alone, all from one pass over the patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from padim_zoo.bench.run import Run, RunConfig
from padim_zoo.bench.timed_fit import Predictions, TimedFit
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.detectors.scoring import rescore
from padim_zoo.estimators.cross_validation import fold_distances
from padim_zoo.estimators.linear_shrinkage import LinearShrinkage
from padim_zoo.features.features import Features, Reduction
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.statistics.accumulator import Accumulator, largest_array
from padim_zoo.statistics.samples import Samples

NOT_IN_ONE_PASS = ("register", "roi", "trim_patches", "augment", "tta")
"""Parameters that give a detector distances of its own: none of its folds come from one pass."""


class _Distances(NamedTuple):
    """Squared distances by one estimator: (P, K, N) of the test images, (P, n) of the normal ones."""

    test: Tensor
    held_out: Tensor


class SharedFolds:
    """Does one pass for all runs that it can serve, when the first of them comes, and keeps what is still wanted.

    Parameters
    ----------
    runs : sequence of Run
        A group: all that are still to be done of one category and backbone.
    create : callable
        The unfitted detector of a run.
    """

    def __init__(self, runs: Sequence[Run], create: Callable[[Run], Detector]) -> None:
        self._runs = runs
        self._create = create
        self._shared: RunConfig | None = None
        self._distances: dict[str, _Distances] = {}

    def predictions(self, run: Run, timed_fit: TimedFit, folds: Sequence[np.ndarray]) -> Iterator[Predictions] | None:
        """What each fold says, or None if it must be fitted to know.

        The detector is fitted without the last fold, which leaves the most images, and scores the test images. That is
        what its costs are measured on.
        """
        if len(folds) < 2 or _linear_shrinkage(timed_fit.detector) is None:
            return None
        timed_fit.fit(folds[-1])
        timed_fit.predict(timed_fit.extracted.test.features)
        distances, detector = self._distances_of(run, timed_fit, folds), timed_fit.detector
        if distances is None:
            return None
        assert isinstance(detector, PaDiM)

        return (
            Predictions(_predict(detector, distances.test[:, number]), _predict(detector, distances.held_out, fold))
            for number, fold in enumerate(folds)
        )

    def held_out(self, run: Run, timed_fit: TimedFit, folds: Sequence[np.ndarray]) -> Prediction | None:
        """Every normal image by the fold that leaves it out, or None if each fold must be fitted to know.

        The detector has been fitted on all normal images, which gives the draw of channels.
        """
        detector = timed_fit.detector
        if _linear_shrinkage(detector) is None:
            return None
        distances = self._distances_of(run, timed_fit, folds, of_test=False)
        if distances is None:
            return None
        assert isinstance(detector, PaDiM)
        return _predict(detector, distances.held_out)

    def _distances_of(
        self, run: Run, timed_fit: TimedFit, folds: Sequence[np.ndarray], *, of_test: bool = True
    ) -> _Distances | None:
        """What the pass of a run and its mates gives for it."""
        if _but_the_estimator(run) != self._shared:
            self._shared, self._distances = _but_the_estimator(run), {}
            try:
                self._distances = self._pass(timed_fit, folds, of_test)
            except Exception:  # whatever it is, the run that it comes from fails alone and tells
                self._distances = {}
        return self._distances.pop(run.id, None)

    def _pass(self, timed_fit: TimedFit, folds: Sequence[np.ndarray], of_test: bool) -> dict[str, _Distances]:
        mates = [run for run in self._runs if _but_the_estimator(run) == self._shared]
        shrinkages = ((run.id, _linear_shrinkage(self._create(run))) for run in mates)
        estimators = {run_id: estimator for run_id, estimator in shrinkages if estimator is not None}
        assert isinstance(timed_fit.detector, PaDiM)
        reduction = timed_fit.detector.reduction_
        normal, test = (
            _embeddings(reduction, part.features, timed_fit.detector.extractor.budget) for part in timed_fit.extracted
        )
        if not of_test:
            test = normal.images(np.arange(0))
        distances = fold_distances(normal, test, folds, list(estimators.values()))
        return {
            run_id: _Distances(distances.test[:, number], distances.held_out[:, number])
            for number, run_id in enumerate(estimators)
        }


def _embeddings(reduction: Reduction, features: Features, budget: int) -> PatchEmbeddings:
    """The embeddings of all images, on disk where they are too large for the memory allowed."""
    accumulator = Accumulator(None, budget)
    for part in features.in_parts(largest_array(budget)):
        accumulator.add(PatchEmbeddings.of(reduction.apply(part)))
    samples = accumulator.result()
    assert isinstance(samples, Samples)  # else nothing is shared
    return samples.embeddings


def _predict(detector: PaDiM, squared: Tensor, images: np.ndarray | None = None) -> Prediction:
    """What squared distances (P, N) say of all images or of some, a few at a time."""
    grid, (height, width) = detector.gaussian_.mean.grid, detector.image_size_
    columns = np.arange(squared.shape[1]) if images is None else images
    at_once = max(1, largest_array(detector.extractor.budget) // (4 * height * width))
    parts = (columns[start : start + at_once] for start in range(0, max(len(columns), 1), at_once))
    scored = (rescore(detector, detector.predict_distances(squared[:, part], grid)) for part in parts)
    return Prediction.gather(scored, len(columns))


def _but_the_estimator(run: Run) -> RunConfig:
    """What runs must agree in to share a pass."""
    return run.config.replace(estimator=None, plugins=())


def _linear_shrinkage(detector: Detector) -> LinearShrinkage | None:
    """The estimator of a detector whose distances a pass gives, with nothing of their own in the way to scores."""
    if type(detector) is not PaDiM:
        return None
    if detector.values_of_maps is not None or any(getattr(detector, name) is not None for name in NOT_IN_ONE_PASS):
        return None
    estimator = detector.build_estimator()
    if isinstance(estimator, LinearShrinkage) and type(estimator).fit is LinearShrinkage.fit:
        return estimator
    return None
