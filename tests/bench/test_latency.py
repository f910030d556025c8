"""What detectors share on the way of an image is measured once, and added to what they do not share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from padim_zoo.bench import measure, timed_fit
from padim_zoo.bench.timed_fit import LatencyMeter
from padim_zoo.detectors.ensemble import Ensemble
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.features.features import Features

IMAGES = [np.zeros((4, 4, 3), dtype=np.uint8)] * 3
FEATURES = Features((torch.arange(5.0).reshape(5, 1, 1, 1),), (4, 4))


class Clock:
    """Time that passes only where a detector says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    return clock


class Timed(PaDiM):
    """A detector whose steps take a time for each image."""

    clock: Clock
    key = "same"
    precision_ = runtime_ = None  # type: ignore[assignment]
    to_features = scoring = 0.0

    @property
    def features_key(self) -> str:
        return self.key

    def predict(self, images: Any, *, roi: Any = None) -> Any:
        self.whole = [*getattr(self, "whole", []), len(images)]
        self.clock.now += len(images) * (self.to_features + self.scoring)

    def predict_features(self, features: Features) -> Any:
        self.scored = [*getattr(self, "scored", []), tuple(features.maps[0].flatten().tolist())]
        self.clock.now += len(features) * self.scoring


@pytest.fixture
def timed(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Timed]:
    def make(to_features: float, scoring: float, key: str = "same") -> Timed:
        detector = Timed()
        detector.clock, detector.to_features, detector.scoring, detector.key = clock, to_features, scoring, key
        return detector

    def extract(detector: Timed, images: Any) -> None:
        clock.now += len(images) * detector.to_features

    monkeypatch.setattr(timed_fit, "_extract", extract)
    return make


def test_the_way_to_features_is_measured_once(timed):
    meter, first, second = LatencyMeter(), timed(0.03, 0.2), timed(9.0, 0.004)
    for size in (1, 8):
        assert meter.milliseconds_per_image(first, IMAGES, FEATURES, size) == pytest.approx(230)
        assert meter.milliseconds_per_image(second, IMAGES, FEATURES, size) == pytest.approx(34)
    of_the_images = (0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 1.0)
    assert set(second.scored) == {(0.0,), of_the_images}


@pytest.mark.parametrize(
    ("key", "images", "threads"),
    [("other", IMAGES, 1), ("same", [np.zeros((4, 5, 3), dtype=np.uint8)] * 3, 1), ("same", IMAGES, 2)],
    ids=["backbone", "size", "threads"],
)
def test_another_way_is_measured_anew(timed, monkeypatch, key, images, threads):
    meter = LatencyMeter()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    meter.milliseconds_per_image(timed(0.03, 0.001), IMAGES, FEATURES, 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert meter.milliseconds_per_image(timed(0.05, 0.001, key), images, FEATURES, 1) == pytest.approx(51)


def test_nothing_is_shared_where_files_are_decoded_or_the_way_is_learned(timed, tmp_path):
    meter, registered = LatencyMeter(), timed(0.05, 0.001)
    meter.milliseconds_per_image(timed(0.03, 0.001), IMAGES, FEATURES, 1)
    registered.extractor.facts = replace(registered.extractor.facts, registration=object())
    for detector, images in ((timed(0.05, 0.001), [tmp_path / "a.png"]), (registered, IMAGES)):
        assert meter.milliseconds_per_image(detector, images, FEATURES, 1) == pytest.approx(51)
        assert detector.whole


def test_an_ensemble_is_measured_whole(clock):
    """Its members compute features that they share each for itself."""
    members = [PaDiM(backbone="builtin", resize=32, crop=None, n_components=4) for _ in range(2)]
    ensemble = Ensemble(members)
    assert ensemble.features_key == members[0].features_key
    calls = []
    ensemble.predict = lambda images: calls.append(len(images))  # type: ignore[method-assign, assignment]
    LatencyMeter().milliseconds_per_image(ensemble, IMAGES, FEATURES, 1)
    assert calls
