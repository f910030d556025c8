"""Time of all pixel figures of one MVTec-sized test set, beside scikit-learn on the same pixels."""

from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import Beside
from references import bootstrap
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from padim_zoo.metrics import aupro, auroc, average_precision, evaluate, f1_max, rank_pixels
from padim_zoo.metrics import bootstrap_interval as interval

IMAGES, NORMAL, SIZE = 83, 20, 256


@pytest.fixture(scope="module")
def test_set() -> tuple[np.ndarray, list[np.ndarray]]:
    """Smooth maps and, on the anomalous images, one to three defects that raise them."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(IMAGES, SIZE, SIZE)).astype(np.float32)
    maps = np.stack([ndimage.gaussian_filter(image, 4) * 10 for image in noise])
    masks = []
    for image in range(IMAGES):
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        for _ in range(0 if image < NORMAL else generator.integers(1, 4)):
            row, column = generator.integers(0, SIZE - 40, 2)
            height, width = generator.integers(5, 60, 2)
            mask[row : row + height, column : column + width] = True
        maps[image][mask] += 1
        masks.append(mask)
    return maps, masks


def pixel_figures(maps: np.ndarray, masks: list[np.ndarray]) -> list[float]:
    ranking, region_ids = rank_pixels(maps, masks)
    return [auroc(ranking), average_precision(ranking), f1_max(ranking)[0], aupro(ranking, region_ids)]


def test_pixel_figures_of_83_maps(beside: Beside, test_set: tuple[np.ndarray, list[np.ndarray]]) -> None:
    """AUROC, AP, F1-max and AUPRO, beside one sort of all pixels; checked against scikit-learn."""
    maps, masks = test_set
    pixels = maps.ravel()
    found = beside(lambda: np.sort(pixels), lambda: pixel_figures(maps, masks), "one sort of the pixels")

    truth = np.stack(masks).ravel()
    start = time.perf_counter()
    expected = [roc_auc_score(truth, pixels), average_precision_score(truth, pixels)]
    scikit_learn = time.perf_counter() - start
    start = time.perf_counter()
    pixel_figures(maps, masks)
    ours = time.perf_counter() - start

    assert found[:2] == pytest.approx(expected, abs=1e-9)
    print(
        f"\nAUROC, AP, F1-max and AUPRO of {IMAGES} maps of {SIZE}x{SIZE}: {ours:.3f} s; "
        f"scikit-learn's AUROC and AP alone: {scikit_learn:.3f} s, {scikit_learn / ours:.1f} times as long"
    )


def test_evaluate_of_83_maps(beside: Beside, test_set: tuple[np.ndarray, list[np.ndarray]]) -> None:
    """All figures from scores, maps and masks, beside one sort of all pixels."""
    maps, masks = test_set
    labels, scores, pixels = np.arange(IMAGES) >= NORMAL, maps.max(axis=(1, 2)), maps.ravel()
    figures = beside(lambda: np.sort(pixels), lambda: evaluate(labels, scores, maps, masks), "one sort of the pixels")
    assert figures.notes == []


def test_bootstrap_interval_of_400_images(beside: Beside) -> None:
    """The interval of an image AUROC, beside scikit-learn's figure on ten of the draws."""
    labels = np.arange(400) >= 100
    scores = np.random.default_rng(0).normal(size=400) + labels
    low, high = beside(
        lambda: bootstrap(labels, scores, 10), lambda: interval(labels, scores), "scikit-learn on 10 draws"
    )
    assert low < high
