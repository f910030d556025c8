"""What detectors share on the way of an image is measured once, and added to what they do not share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from padim_zoo.bench import measure
from padim_zoo.bench.latency import LatencyMeter
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


class Timed:
    """A detector whose steps take a time for each image."""

    precision_ = runtime_ = None

    def __init__(self, clock: Clock, key: str, *, to_features: float, scoring: float) -> None:
        self.clock, self.features_key, self.to_features, self.scoring = clock, key, to_features, scoring
        self.whole: list[int] = []
        self.scored: list[list[float]] = []

    def predict(self, images: Any) -> None:
        self.whole.append(len(images))
        self.clock.now += len(images) * (self.to_features + self.scoring)

    def predict_features(self, features: Features) -> None:
        self.scored.append(features.maps[0].flatten().tolist())
        self.clock.now += len(features) * self.scoring


def test_the_way_to_features_is_measured_once(clock):
    meter = LatencyMeter()
    first = Timed(clock, "same", to_features=0.03, scoring=0.001)
    second = Timed(clock, "same", to_features=9.0, scoring=0.004)
    for size in (1, 8):
        assert meter.milliseconds_per_image(first, IMAGES, FEATURES, size) == pytest.approx(31)
        assert meter.milliseconds_per_image(second, IMAGES, FEATURES, size) == pytest.approx(34)
    assert not second.whole
    assert set(map(tuple, second.scored)) == {(0.0,), (0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 1.0)}  # of the images timed


@pytest.mark.parametrize(
    ("key", "images"),
    [("other", IMAGES), ("same", [np.zeros((4, 5, 3), dtype=np.uint8)] * 3)],
    ids=["other backbone", "other size"],
)
def test_another_way_is_measured_anew(clock, key, images):
    meter = LatencyMeter()
    meter.milliseconds_per_image(Timed(clock, "same", to_features=0.03, scoring=0.001), IMAGES, FEATURES, 1)
    other = Timed(clock, key, to_features=0.05, scoring=0.001)
    assert meter.milliseconds_per_image(other, images, FEATURES, 1) == pytest.approx(51)


def test_nothing_is_shared_where_files_are_decoded(clock, tmp_path):
    meter = LatencyMeter()
    for to_features in (0.03, 0.05):
        detector = Timed(clock, "same", to_features=to_features, scoring=0.001)
        assert meter.milliseconds_per_image(detector, [tmp_path / "a.png"], FEATURES, 1) == pytest.approx(
            1000 * (to_features + 0.001)
        )
