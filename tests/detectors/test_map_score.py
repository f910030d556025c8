"""Scores by maps, for every detector that makes maps."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from padim_zoo import SPADE, STFPM, InputError, MahalanobisAD, PaDiM, PatchCore, Subspace, load
from padim_zoo.detectors.map_score import MapScore

SMALL = {"backbone": "resnet18", "weights": "none", "resize": 32, "precision": "float32"}
KINDS = [(PaDiM, {}), (PatchCore, {}), (SPADE, {}), (Subspace, {}), (STFPM, {"epochs": 1})]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(80, 160, (9, 40, 48, 3), dtype=np.uint8)


def literal(map_: np.ndarray, share: float) -> float:
    count = math.ceil(share * map_.size)
    return float(np.sort(map_.ravel().astype(np.float64))[-count:].mean())


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=[kind.name for kind, _ in KINDS])
def test_every_detector_can_be_scored_by_its_map(images, tmp_path, kind, options):
    detector = kind(score="mean(0.05)", **options, **SMALL).fit(images[:6])
    prediction = detector.predict(images)
    np.testing.assert_allclose(prediction.scores, [literal(one, 0.05) for one in prediction.maps], rtol=1e-5)
    assert not detector.threshold_serves_maps
    detector.calibrate()
    detector.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(again.predict(images).scores, prediction.scores, rtol=2e-3)
    highest = detector.set_params(score="max")
    assert highest.threshold_ is None  # but the fit stays
    prediction = highest.predict(images)
    np.testing.assert_array_equal(prediction.scores, prediction.maps.max((1, 2)))
    assert highest.threshold_serves_maps


def test_only_pixels_that_count_make_the_score(images):
    roi = np.zeros((40, 48), dtype=bool)
    roi[10:30, 5:20] = True
    prediction = Subspace(roi=roi, **SMALL).fit(images[:6]).predict(images)
    for score, map_, mask in zip(prediction.scores, prediction.maps, prediction.roi_masks, strict=True):
        assert score == pytest.approx(literal(map_[mask], 0.01), rel=1e-5)


def test_the_mean_of_views_is_taken_before_the_score(images):
    prediction = PaDiM(score="mean(0.1)", tta="flip", **SMALL).fit(images[:6]).predict(images)
    np.testing.assert_allclose(prediction.scores, [literal(one, 0.1) for one in prediction.maps], rtol=1e-5)


NO_RULES = ["mean", "mean(0)", "mean(2)", "mean(share=0.1)", "median(0.1)", "mean(True)", 3]
BROKEN = ["mean(nan)", "mean(1%)", "mean(inf)", "mean(0.01", ""]


@pytest.mark.parametrize("rule", NO_RULES + BROKEN)
def test_rules_that_are_none_are_refused(rule):
    with pytest.raises(InputError, match=f"score is {re.escape(repr(rule))}: expected max, or mean"):
        PaDiM(score=rule, **SMALL).check_parameters()


def test_rules_have_one_spelling():
    assert [str(MapScore.parse(rule)) for rule in ("max", "mean( .010 )", "mean(1)")] == [
        "max",
        "mean(0.01)",
        "mean(1)",
    ]


def test_a_detector_without_maps_takes_no_score():
    with pytest.raises(TypeError, match="score"):
        MahalanobisAD(score="max")
