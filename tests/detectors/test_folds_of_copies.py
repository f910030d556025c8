"""Copies stay in one fold, and the promise of a threshold counts different images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import KFold

from padim_zoo import PaDiM, load
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.held_out import folds_of, split_folds
from padim_zoo.metrics.conformal import conformal_threshold

SMALL = {"resize": 32, "crop": None, "n_components": 8, "device": "cpu", "precision": "float32"}


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def literal_threshold(scores: np.ndarray, rate: float, groups: np.ndarray) -> float:
    """The lowest score that leaves at most ``rate`` of the weight above it, one place being the new image's."""
    m = len(set(groups.tolist()))
    for score in sorted(scores):
        above = sum(1 / (groups == group).sum() for s, group in zip(scores, groups, strict=True) if s > score)
        if above + 1 <= (m + 1) * rate * (1 + 1e-9):
            return float(score)
    raise AssertionError


@pytest.mark.parametrize(("m", "folds", "seed"), [(40, 5, 0), (41, 5, 3), (7, 7, 1), (10, 3, 2**32 - 1)])
def test_folds_are_those_of_scikit_learn(m: int, folds: int, seed: int) -> None:
    expected = [held_out for _, held_out in KFold(folds, shuffle=True, random_state=seed).split(np.empty(m))]
    for part, literal in zip(split_folds(m, folds, seed), expected, strict=True):
        np.testing.assert_array_equal(part, literal)


def test_weighted_thresholds_are_the_literal_ones() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        groups = random.integers(0, random.integers(2, 12), 30)
        scores = random.normal(size=30).round(1)
        m = len(np.unique(groups))
        rate = random.uniform(1 / (m + 1), 0.9)
        assert conformal_threshold(scores, rate, groups) == literal_threshold(scores, rate, groups)
    scores = random.normal(size=30)
    assert conformal_threshold(scores, 0.2) == conformal_threshold(scores, 0.2, np.arange(30))
    copied = np.repeat(scores, 3)
    assert conformal_threshold(copied, 0.2, np.repeat(np.arange(30), 3)) == conformal_threshold(scores, 0.2)


def test_the_promise_holds_for_a_new_group() -> None:
    """Of groups that differ more than their images, a share of at most the rate lies above; by images it would not."""
    random = np.random.default_rng(0)
    above: dict[str, list[bool]] = {"groups": [], "images": []}
    for _ in range(1500):
        centers = random.normal(size=20)
        groups = np.repeat(np.arange(19), [200, *[1] * 18])
        scores = centers[groups] + 0.05 * random.normal(size=len(groups))
        new = centers[19] + 0.05 * random.normal()
        above["groups"].append(new > conformal_threshold(scores, 0.05, groups))
        above["images"].append(new > conformal_threshold(scores, 0.05))
    assert np.mean(above["groups"]) < 0.065
    assert np.mean(above["images"]) > 0.075


def test_groups_stay_in_one_fold() -> None:
    groups = np.array([0, 1, 2, 3, 4, 0, 1, 5, 0, 6])
    folds = split_folds(10, 3, 0, groups)
    assert sorted(np.concatenate(folds).tolist()) == list(range(10))
    fold_of = {index: number for number, fold in enumerate(folds) for index in fold.tolist()}
    for group in range(7):
        assert len({fold_of[index] for index in np.flatnonzero(groups == group).tolist()}) == 1
    for mine, plain in zip(split_folds(10, 3, 0, np.arange(10)), split_folds(10, 3, 0), strict=True):
        np.testing.assert_array_equal(mine, plain)
    assert len(folds_of(10, 9, 0, groups)) == 7
    with pytest.raises(InputError, match="10 normal images, of which 7 are different, cannot make 8 folds"):
        split_folds(10, 8, 0, groups)
    with pytest.raises(InputError, match=r"at least 2 different normal images, .* found 1 among 4"):
        folds_of(4, 2, 0, np.zeros(4))


def test_copies_are_told_by_themselves_and_count_once(tmp_path: Path) -> None:
    different = images(6)
    copied = np.tile(different, (4, 1, 1, 1))
    detector = PaDiM(**SMALL).fit(copied)
    calibration = detector.calibrate()
    assert calibration.n_groups == 6
    assert calibration.false_alarm_rate == pytest.approx(1 / 7)
    np.testing.assert_allclose(calibration.scores[:6], calibration.scores[6:12], rtol=1e-4)
    fresh = detector.predict(images(20, seed=1)).scores
    assert (fresh > calibration.threshold).mean() < 0.6
    with pytest.raises(InputError, match=r"0\.1 needs at least 9 normal images, found 6 different ones among 24"):
        detector.calibrate(false_alarm_rate=0.1)
    detector.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors").calibration_
    assert again is not None
    np.testing.assert_array_equal(again.groups, calibration.groups)


def test_groups_that_are_given_are_joined_with_copies() -> None:
    pixels = images(8)
    pixels[7] = pixels[0]
    calibration = PaDiM(**SMALL).fit(pixels).calibrate(groups=np.array([0, 0, 1, 1, 2, 3, 4, 5]))
    assert calibration.groups is not None
    assert calibration.groups.tolist() == [0, 0, 1, 1, 2, 3, 4, 0]


def test_copies_are_found_where_a_layer_has_no_channel() -> None:
    """Two of many channels are drawn, so that nothing of some layer may be."""
    many = images(6)
    many[4] = many[1]
    detector = PaDiM("builtin", **{**SMALL, "n_components": 2}).fit(many)
    assert detector.statistics_ is not None
    assert 0 in [layer.shape[2] for layer in detector.statistics_.embeddings.layers]  # type: ignore[union-attr]
    detector.calibrate()
    assert detector.learned_images_.groups is not None
    assert detector.learned_images_.groups.numbers.tolist() == [0, 1, 2, 3, 1, 4]
