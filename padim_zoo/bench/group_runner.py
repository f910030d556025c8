"""What runs of one group share, and how one of them is done: fit, score and judge, fold by fold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np

from padim_zoo.backbones.weight_provenance import count_adapted, images_adapted_to, not_out_of_sample
from padim_zoo.bench.build import BackboneCache, create_detector, memory_of_worker
from padim_zoo.bench.extraction import extract
from padim_zoo.bench.gallery import FoldMaps, make_gallery, thumbnail
from padim_zoo.bench.measure import BATCH_SIZES
from padim_zoo.bench.robustness import FrozenFit
from padim_zoo.bench.run import Run
from padim_zoo.bench.run_images import drawn_images, features_drawn, without_learned
from padim_zoo.bench.run_result import GroundTruth, RunResult
from padim_zoo.bench.shared_folds import NOT_IN_ONE_PASS, SharedFolds
from padim_zoo.bench.suite import Suite
from padim_zoo.bench.timed_fit import Extracted, LatencyMeter, TimedFit
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.spill import spill_above
from padim_zoo.data.corruptions import parse_corruptions
from padim_zoo.data.duplicates import (
    Duplicates,
    find_duplicates,
    groups_by_pattern,
    refuse_two_labels,
)
from padim_zoo.data.grid import sizes_of
from padim_zoo.data.groups import joined_groups
from padim_zoo.data.image import read_image
from padim_zoo.data.sample import Category
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.config import CALIBRATION_FOLDS
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.held_out import split_folds
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.statistics.accumulator import default_budget, largest_array

LATENCY_PIXELS = 2**25
"""Of all images on which latency is measured, at most: they are in memory, decoded."""

NO_THRESHOLD = (
    "no threshold, so neither detections nor false alarms: give --folds, e.g. 5 (without, only padim with an "
    f"estimator such as full or ledoit-wolf has one, and not with {', '.join(NOT_IN_ONE_PASS)})"
)
"""The note of a run that has no folds from one pass."""


class GroupRunner:
    """What the runs of one group share: a category, backbones, their features, the ground truth.

    Everything is made at first use, and an error in the making is raised again for every run that needs it.

    Parameters
    ----------
    suite : Suite
    category : Category
    runs : sequence of Run
        The group, as far as it is to be done.
    backbones : BackboneCache
        Those of the group before, which may be the same.
    caches : Caches
        Where features and images are kept from one benchmark to the next.
    latency : LatencyMeter
        That of the groups before.
    """

    def __init__(
        self,
        suite: Suite,
        category: Category,
        runs: Sequence[Run],
        backbones: BackboneCache,
        caches: Caches,
        latency: LatencyMeter,
    ) -> None:
        self.suite = suite
        self._whole_category = category
        backbones.keep_for(runs)
        self._backbones = backbones
        self._caches = caches
        self._latency = latency
        self._shared_folds = SharedFolds(runs, self._create)
        self._truths: dict[tuple[Transform, tuple[int, int] | None], GroundTruth] = {}
        self._key: str | None = None
        self._extracted: Extracted | Exception | None = None

    @cached_property
    def _category_and_notes(self) -> tuple[Category, list[str]]:
        whole = self._whole_category
        category, notes = without_learned(whole, self._caches)
        notes = [*whole.notes, *notes]
        defects = sum(sample.label for sample in whole.train)
        if defects:
            notes = [*notes, f"{defects} anomalous test images are among the images to fit, by --contaminate"]
        return category, notes

    @property
    def category(self) -> Category:
        """The category, without the test images that runs learn."""
        return self._category_and_notes[0]

    @cached_property
    def _thumbnail(self) -> Callable[[int, Transform], bytes]:
        return cache(partial(thumbnail, self.category))

    def truth(self, detector: Detector) -> GroundTruth:
        """Labels of the test images, and masks in register with the maps of a detector."""
        key = detector.transform, detector.canvas
        if key not in self._truths:
            self._truths[key] = GroundTruth.of(self.category, key[0], self.suite, key[1])
        return self._truths[key]

    @cached_property
    def images(self) -> Sequence[np.ndarray | Path]:
        """Some test images to measure latency on: decoded, unless their masks are found by their names."""
        pixels = max(sizes_of([sample.path for sample in self.category.test[:1]]))
        most = max(1, min(max(BATCH_SIZES), LATENCY_PIXELS // math.prod(pixels)))
        some = [sample.path for sample in self.category.test[:most]]
        by_name = self.suite.roi is not None and self.suite.roi.is_dir()
        return some if by_name else [read_image(path) for path in some]

    def extract(self, detector: Detector) -> Extracted:
        """The features that ``detector`` needs; those of the last run if they are the same."""
        if detector.features_key != self._key:
            self._key, self._extracted = detector.features_key, None
            try:
                if not self.category.test:
                    raise InputError(f"{self.category.name} has no test images: expected some, normal and anomalous")
                batch_size = self.suite.batch_size
                self._extracted = Extracted(
                    extract(detector, self.category.train, self._caches.features, batch_size, normal=True),
                    extract(detector, self.category.test, self._caches.features, batch_size),
                )
            except Exception as error:
                self._extracted = error
        if isinstance(self._extracted, Exception):
            raise self._extracted
        assert self._extracted is not None
        return self._extracted

    @property
    def paths(self) -> list[Path]:
        """All images, those to fit first."""
        category = self._whole_category  # a category of which no test image is left has images to name all the same
        return [sample.path for sample in (*category.train, *category.test)]

    @cached_property
    def duplicates(self) -> Duplicates:
        """Copies among the images to fit and to test, in this order."""
        train, test = self.category.train, self.category.test
        return find_duplicates((*train, *test), self._caches.fingerprints, len(train))

    def groups(self, pattern: str | None) -> np.ndarray:
        """Groups (n,) of the normal images, which stay together in folds."""
        copies = self.duplicates.groups[: len(self.category.train)]
        if pattern is None:
            return copies
        return joined_groups(copies, groups_by_pattern([sample.path for sample in self.category.train], pattern))

    def do(self, run: Run) -> RunResult:
        """Fit and score every fold of a run; features and maps that memory has no room for lie in files."""
        memory = memory_of_worker(self.suite)
        with spill_above(largest_array(default_budget() if memory is None else memory)):
            return self._do(run)

    def _do(self, run: Run) -> RunResult:
        refuse_two_labels((*self.category.train, *self.category.test), self.duplicates)
        detector = self._create(run)
        images = drawn_images(self.category.train, run)
        extracted = features_drawn(self.extract(detector), run, images)
        detector.cache = False  # whatever reads a file from here on is timed
        truth = self.truth(detector)
        n = len(extracted.train.features)
        cached = extracted.train.cached + extracted.test.cached
        result = RunResult(detector.precision_, detector.runtime_, n, len(extracted.test.features), cached)
        result.coverage = truth.coverage.to_dict()
        groups = self.groups(run.config.groups)[images]
        parts = split_folds(n, run.config.folds, run.config.seed, groups) if run.config.folds > 1 else [np.arange(0)]
        timed_fit = TimedFit(detector, extracted, groups)
        predictions = self._shared_folds.predictions(run, timed_fit, parts) or timed_fit.predict_fold_by_fold(parts)
        test_scores: list[np.ndarray] = []
        held_out_scores = np.full(n, np.nan, dtype=np.float32)
        held_out_fold = np.full(n, -1, dtype=np.int64)
        small_maps = FoldMaps()
        for number, (part, (test, held_out)) in enumerate(zip(parts, predictions, strict=True)):
            calibrated = self._calibrate(run, timed_fit, groups) if run.config.folds == 1 else None
            own = held_out if calibrated is None else calibrated[0]
            result.judge(truth, test, own, run.config.aupimo_bounds)
            test_scores.append(test.scores)
            if held_out is not None:
                held_out_scores[part], held_out_fold[part] = held_out.scores, number
            elif calibrated is not None:
                held_out_scores, held_out_fold = calibrated[0].scores, calibrated[1]
            else:
                result.notes.append(NO_THRESHOLD)
            if self.suite.gallery:
                small_maps.add(test.pictured, held_out.pictured if held_out is not None else None)
        frozen = None if run.config.corruptions is None else self._corrupt(run, detector, test_scores[-1])
        result.timings = timed_fit.costs(self.images, self._latency)
        if isinstance(self.images[0], Path):
            result.notes.append("the time of an image includes its decoding and that of its mask")
        if self.suite.time_exports:
            from padim_zoo.bench.runtimes import runtime_costs  # only here are exporters wanted

            times, notes = runtime_costs(detector, self.images, self.suite.time_exports)
            result.timings |= times
            result.notes += notes
            result.runtimes = self.suite.time_exports
        result.keep_scores(truth.labels, np.stack(test_scores))
        if (held_out_fold >= 0).all():
            result.scores |= {"out_of_fold_scores": held_out_scores, "out_of_fold_fold": held_out_fold}
            result.set_threshold(held_out_scores, groups, run.config.fpr)
            paths = [self.category.train[index].path for index in images]
            adapted = max(count_adapted(images_adapted_to(part.weights), paths) for part in run.parts)
            if adapted:
                result.notes.append(not_out_of_sample(adapted, n))
        if frozen is not None:
            result.keep_corruptions(frozen)
        result.notes += self._category_and_notes[1] + self.duplicates.notes(len(self.category.train))
        if self.suite.gallery:
            result.gallery = make_gallery(
                self.category,
                result.scores["scores"].mean(0),
                truth.masks,
                small_maps,
                self._thumbnail,
                detector.transform,
                run.config.data,
                score_is_map_maximum=detector.threshold_serves_maps,
            ).to_arrays()
        return result

    def _calibrate(self, run: Run, timed_fit: TimedFit, groups: np.ndarray) -> tuple[Prediction, np.ndarray] | None:
        """Every normal image by a fold that leaves it out, and that fold (n,), cut as ``fit`` does for a threshold.

        None where this would take a fit of every fold, or there is but one group of images (n,).
        """
        folds = min(CALIBRATION_FOLDS, len(np.unique(groups)))
        if folds < 2:
            return None
        parts = split_folds(len(groups), folds, run.config.seed, groups)
        held_out = timed_fit.normal_p_values() or self._shared_folds.held_out(run, timed_fit, parts)
        if held_out is None:
            return None
        fold_of = np.empty(len(groups), dtype=np.int64)
        for number, part in enumerate(parts):
            fold_of[part] = number
        return held_out, fold_of

    def _corrupt(self, run: Run, detector: Detector, clean: np.ndarray) -> FrozenFit:
        """Scores of corrupted test images by the detector of the last fold, which scored the clean ones so."""
        corruptions = parse_corruptions("corruptions", run.config.corruptions)
        return FrozenFit.of(detector, clean, self.category.test, corruptions, self._caches, self.suite.batch_size)

    def _create(self, run: Run) -> Detector:
        detector = create_detector(self.suite, run, *map(self._backbones.of, run.parts))
        detector.cache = Caches(self._caches.images)  # features are kept where their times are
        detector.look_at([sample.path for sample in self.category.train])
        detector.make_room(self.paths)
        detector.expect(len(self.paths))
        return detector
