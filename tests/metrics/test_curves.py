"""Curves of several folds: the area below the drawn line is the mean of the metric, whatever the ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, roc_auc_score, roc_curve

from padim_zoo.metrics import METRICS
from padim_zoo.metrics.curves import image_curves, mean_curve, pixel_curves
from padim_zoo.metrics.ranked_test_set import rank_test_set


def fold_scores(seed: int, folds: int, tied: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], (7, 9))
    scores = rng.integers(0, 5, (folds, 16)) if tied else rng.random((folds, 16)) + labels * rng.random()
    return labels, scores.astype(float)


@given(st.integers(0, 2**32), st.integers(1, 3), st.booleans())
@settings(deadline=None, max_examples=50)
def test_area_below_the_mean_curve_is_the_mean_of_the_areas(seed: int, folds: int, tied: bool) -> None:
    labels, scores = fold_scores(seed, folds, tied)
    curves = image_curves(labels, scores)
    assert auc(*curves["roc"]) == pytest.approx(np.mean([roc_auc_score(labels, fold) for fold in scores]))
    assert auc(*curves["pr"]) == pytest.approx(np.mean([average_precision_score(labels, fold) for fold in scores]))
    for at in (0.2, 0.5, 0.9):  # where no curve of 7 normal images has a step
        heights = []
        for fold in scores:
            false, true, _ = roc_curve(labels, fold, drop_intermediate=False)
            heights.append(np.interp(at, false, true))
        assert np.interp(at, *curves["roc"]) == pytest.approx(np.mean(heights), abs=1e-9)


def test_no_curve_without_both_kinds_of_images() -> None:
    assert image_curves(np.ones(3), np.ones((1, 3))) == {}
    assert image_curves(np.zeros(3), np.ones((1, 3))) == {}


def test_the_mean_of_curves_keeps_their_jumps_and_only_their_corners() -> None:
    step, line = np.array([[0, 0.5, 0.5, 1], [0, 0, 1, 1.0]]), np.array([[0, 1], [0, 1.0]])
    np.testing.assert_allclose(mean_curve([step, line]), [[0, 0.5, 0.5, 1], [0, 0.25, 0.75, 1]])
    np.testing.assert_allclose(mean_curve([line, line]), line)


def test_area_below_a_curve_of_pixels_is_its_metric() -> None:
    rng = np.random.default_rng(0)
    labels, maps = np.repeat([0, 1], (3, 5)), rng.normal(size=(8, 40, 40))
    masks = [np.zeros((40, 40), bool) for _ in labels]
    for image in np.flatnonzero(labels):
        row, column = rng.integers(0, 30, 2)
        masks[image][row : row + 9, column : column + 6] = True
        maps[image][masks[image]] += rng.random() * 3
    test_set = rank_test_set(labels, rng.random(8), maps, masks)
    curves = pixel_curves(test_set)
    for metric in METRICS.values():
        if metric.curve in curves:
            x, y = curves[metric.curve].astype(float)
            assert auc(x, y) / x[-1] == pytest.approx(metric.compute(test_set), abs=1e-3), metric.name
