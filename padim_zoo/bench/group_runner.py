"""What runs of one group share, and how one of them is done: fit, score and judge, fold by fold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.weight_provenance import count_adapted, images_adapted_to, not_out_of_sample
from padim_zoo.bench.build import create_backbone, create_detector, memory_of_worker
from padim_zoo.bench.extraction import extract
from padim_zoo.bench.gallery import FoldMaps, make_gallery, thumbnail
from padim_zoo.bench.measure import BATCH_SIZES
from padim_zoo.bench.robustness import NEEDS_THRESHOLD, FrozenFit, share, worst_rates
from padim_zoo.bench.run import Run
from padim_zoo.bench.shared_folds import SharedFolds
from padim_zoo.bench.suite import Suite
from padim_zoo.bench.timed_fit import Extracted, TimedFit
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.spill import spill_above
from padim_zoo.data.corruptions import parse_corruptions
from padim_zoo.data.coverage import Coverage, coverage
from padim_zoo.data.duplicates import (
    Duplicates,
    find_duplicates,
    groups_by_pattern,
    refuse_two_labels,
)
from padim_zoo.data.grid import sizes_of
from padim_zoo.data.groups import joined_groups
from padim_zoo.data.image import read_image
from padim_zoo.data.loading import masks
from padim_zoo.data.sample import Category, Sample
from padim_zoo.data.saturation import saturation_shares
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.calibration import usual_rate
from padim_zoo.detectors.config import CALIBRATION_FOLDS
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.held_out import split_folds
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.metrics.conformal import conformal_threshold
from padim_zoo.metrics.doubts import promise_doubt
from padim_zoo.metrics.evaluation import evaluate, evaluate_decisions
from padim_zoo.metrics.metric import confidence_intervals, per_image_array
from padim_zoo.metrics.per_image_overlap import AUPIMO_BOUNDS, Bounds
from padim_zoo.metrics.thresholds import pixel_threshold
from padim_zoo.statistics.accumulator import default_budget, largest_array

LATENCY_PIXELS = 2**25
"""Of all images on which latency is measured, at most: they are in memory, decoded."""

NO_THRESHOLD = (
    "no threshold, so neither detections nor false alarms: this needs --folds (one pass gives folds only of PaDiM with "
    "a covariance a·S + b·I)"
)
"""The note of a run that has no folds from one pass."""


@dataclass(frozen=True)
class GroundTruth:
    """What is known of the test images: labels (N,); masks and saturation in the size of the maps; what that leaves."""

    labels: np.ndarray
    masks: list[np.ndarray | None]
    saturation: list[np.ndarray | None] | None
    coverage: Coverage

    @classmethod
    def of(cls, category: Category, transform: Transform, suite: Suite) -> GroundTruth:
        """Read the ground truth of a category, as a suite wants masks to be read."""
        labels = np.array([sample.label for sample in category.test], dtype=np.uint8)
        orientation = suite.mask_orientation
        truth = masks(category.test, transform, rule=suite.mask_resize, orientation=orientation)
        seen = coverage(transform, category.test, orientation=orientation)
        return cls(labels, truth, saturation_shares(category.test, truth), seen)


@dataclass
class RunResult:
    """What a run finds, fold by fold."""

    precision: str | None = None
    runtime: str | None = None
    n_train: int | None = None
    n_test: int | None = None
    cached_images: int = 0
    coverage: dict[str, Any] = field(default_factory=dict)
    folds: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interval: dict[str, float] = field(default_factory=dict)
    threshold: dict[str, float] = field(default_factory=dict)
    corruptions: list[dict[str, Any]] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    runtimes: tuple[str, ...] = ()
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    gallery: dict[str, np.ndarray] | None = None
    _curves: list[dict[str, np.ndarray]] = field(default_factory=list)
    _per_image: list[dict[str, np.ndarray]] = field(default_factory=list)

    def recorded(self) -> dict[str, Any]:
        """What a run document holds: everything but arrays."""
        arrays = ("scores", "gallery", "_curves", "_per_image")
        return {name: value for name, value in vars(self).items() if name not in arrays}

    def judge(
        self, truth: GroundTruth, prediction: Prediction, held_out: Prediction | None, aupimo_bounds: Bounds | None
    ) -> None:
        """Add the metrics of one fold; the normal images that it holds out, if any, set the pixel threshold."""
        result = evaluate(
            truth.labels,
            prediction.scores,
            prediction.maps,
            truth.masks,
            roi_masks=prediction.roi_masks,
            saturation=truth.saturation,
            pixel_threshold=None if held_out is None else pixel_threshold(held_out.scored_pixels),
            aupimo_bounds=aupimo_bounds or AUPIMO_BOUNDS,
        )
        self.folds.append(result.values)
        self._curves.append(result.curves)
        self._per_image.append(result.per_image)
        self.notes += [note for note in result.notes if note not in self.notes]

    def keep_scores(self, labels: np.ndarray, scores: np.ndarray) -> None:
        """Keep the test scores of all folds (K, N), what metrics have of each image, mean curves, and intervals."""
        curves = {f"{name}_curve": np.stack([fold[name] for fold in self._curves]).mean(0) for name in self._curves[0]}
        per_image = {
            per_image_array(name): np.stack([fold[name] for fold in self._per_image]) for name in self._per_image[0]
        }
        self.scores = {"labels": labels, "scores": scores, **curves, **per_image}
        self.interval = confidence_intervals(labels, scores)

    def set_threshold(self, normal_scores: np.ndarray, groups: np.ndarray, false_alarm_rate: float | None) -> None:
        """Keep the conformal threshold of out-of-fold normal scores (n,), and what it does on the test images.

        Images of one group (n,) were held out together. A rate of None stands for the usual one, or the least possible;
        one that is too small for so few images is noted.
        """
        rate = usual_rate(len(np.unique(groups))) if false_alarm_rate is None else false_alarm_rate
        try:
            threshold = conformal_threshold(normal_scores, rate, groups)
        except InputError as error:
            self.notes.append(f"no threshold: {error}")
            return
        called, anomalous = self.scores["scores"] > threshold, self.scores["labels"] == 1
        self.threshold = {
            "threshold": threshold,
            "promised_false_alarms": rate,
            "false_alarms": share(called[:, ~anomalous]),
            "detections": share(called[:, anomalous]),
        }
        # Folds score the same images: their mean count, for they are no images more.
        alarms = round(float(called[:, ~anomalous].sum(axis=1).mean()))
        doubt = promise_doubt(alarms, int((~anomalous).sum()), rate, len(np.unique(groups)))
        self.notes += [] if doubt is None else [doubt]
        for values, scores in zip(self.folds, self.scores["scores"], strict=True):
            values |= evaluate_decisions(self.scores["labels"], scores, threshold)

    def keep_corruptions(self, frozen: FrozenFit) -> None:
        """Keep what the threshold does on corrupted images, or note that there is none."""
        if not self.threshold:
            self.notes.append(NEEDS_THRESHOLD)
            return
        self.corruptions = frozen.rates(self.scores["labels"], self.threshold["threshold"])
        self.threshold |= worst_rates(self.corruptions)


def _drawn_images(train: Sequence[Sample], run: Run) -> np.ndarray:
    """The images that a run may fit; sorted.

    That is as many normal ones as it asks for, the first of a shuffle by its seed, and all defects that stand behind.
    """
    labels = np.array([sample.label for sample in train])
    order = np.random.default_rng(run.config.seed).permutation(np.flatnonzero(labels == 0))
    return np.sort(np.concatenate([order[: run.config.train_size], np.flatnonzero(labels)]))


def _drawn(extracted: Extracted, run: Run, images: np.ndarray) -> Extracted:
    """The features of the images that a run may see."""
    if run.config.train_size is None:
        return extracted
    train = extracted.train
    features = train.features.images(images)
    return extracted._replace(train=replace(train, features=features, cached=min(train.cached, len(features))))


class BackboneCache:
    """Makes the backbones of runs, and keeps them as long as groups of runs want them."""

    def __init__(self) -> None:
        self._backbones: dict[tuple[object, ...], Backbone | None] = {}

    def keep_for(self, runs: Sequence[Run]) -> None:
        """Drop the backbones that a group does not want, before others are made."""
        wanted = {_backbone_key(part) for run in runs for part in run.parts}
        self._backbones = {key: backbone for key, backbone in self._backbones.items() if key in wanted}

    def of(self, run: Run) -> Backbone | None:
        """The backbone of a run, or None if its detector takes none."""
        key = _backbone_key(run)
        if key not in self._backbones:
            self._backbones[key] = _create_planned(run)
        return self._backbones[key]


def _create_planned(run: Run) -> Backbone | None:
    """The backbone of a run, with the weights that were planned.

    Raises
    ------
    InputError
        If they have changed since, or another machine has others.
    """
    backbone = create_backbone(run)
    planned = run.config.weights_hash
    if backbone is not None and planned is not None and backbone.weights_hash != planned:
        raise InputError(
            f"the weights {run.weights} of {run.config.backbone} have the hash {backbone.weights_hash} here, and "
            f"{planned} where the runs were planned: expected the same weights"
        )
    return backbone


def _without_learned(category: Category, caches: Caches) -> tuple[Category, list[str]]:
    """A category without the test images that have the pixels of images to fit, and a note of how many.

    Anomalous ones are left out where a copy was moved among the images to fit. Pixels under two labels are refused
    elsewhere.

    Raises
    ------
    InputError
        If no normal test image is left.
    """
    n, samples = len(category.train), (*category.train, *category.test)
    copies = [pair for pair in find_duplicates(samples, caches.fingerprints, n).crossing(n) if pair.kind == "exact"]
    learned = {pair.second - n for pair in copies if samples[pair.first].label == samples[pair.second].label}
    if not learned:
        return category, []
    test = tuple(sample for index, sample in enumerate(category.test) if index not in learned)
    normal = sum(not category.test[index].label for index in learned)
    if normal and all(sample.label for sample in test):
        raise InputError(
            f"all {normal} normal test images of {category.name} have the pixels of images to fit: expected "
            "others, which no run has seen; set some aside before the fit (test/good)"
        )
    note = f"{len(learned)} of {len(category.test)} test images have the pixels of images to fit and are left out"
    return replace(category, test=test), [note]


def _backbone_key(run: Run) -> tuple[object, ...]:
    return run.config.backbone, run.config.layers, run.weights


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
    """

    def __init__(
        self,
        suite: Suite,
        category: Category,
        runs: Sequence[Run],
        backbones: BackboneCache,
        caches: Caches,
    ) -> None:
        self.suite = suite
        self._whole_category = category
        backbones.keep_for(runs)
        self._backbones = backbones
        self._caches = caches
        self._shared_folds = SharedFolds(runs, self._create)
        self._truths: dict[Transform, GroundTruth] = {}
        self._key: str | None = None
        self._extracted: Extracted | Exception | None = None

    @cached_property
    def _category_and_notes(self) -> tuple[Category, list[str]]:
        whole = self._whole_category
        category, notes = _without_learned(whole, self._caches)
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

    def truth(self, transform: Transform) -> GroundTruth:
        """Labels of the test images, and masks in register with the maps of a detector with this transform."""
        if transform not in self._truths:
            self._truths[transform] = GroundTruth.of(self.category, transform, self.suite)
        return self._truths[transform]

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
        images = _drawn_images(self.category.train, run)
        extracted = _drawn(self.extract(detector), run, images)
        detector.cache = False  # whatever reads a file from here on is timed
        truth = self.truth(detector.transform)
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
        result.timings = timed_fit.costs(self.images)
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
        detector.expect(len(self.paths))
        return detector
