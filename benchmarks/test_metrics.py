"""Time of all pixel figures of one MVTec-sized test set, beside scikit-learn on the same pixels."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
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
    ranking, regions = rank_pixels(maps, masks)
    return [auroc(ranking), average_precision(ranking), f1_max(ranking)[0], aupro(ranking, regions)]


def test_pixel_figures_of_83_maps(benchmark: BenchmarkFixture, test_set: tuple[np.ndarray, list[np.ndarray]]) -> None:
    maps, masks = test_set
    found = benchmark(pixel_figures, maps, masks)

    truth = np.stack(masks).ravel()
    start = time.perf_counter()
    expected = [roc_auc_score(truth, maps.ravel()), average_precision_score(truth, maps.ravel())]
    scikit_learn = time.perf_counter() - start

    assert found[:2] == pytest.approx(expected, abs=1e-9)
    if benchmark.stats is not None:
        ours = benchmark.stats.stats.median
        benchmark.extra_info |= {"scikit_learn_seconds": scikit_learn, "scikit_learn_over_ours": scikit_learn / ours}
        print(
            f"\nAUROC, AP, F1-max and AUPRO of {IMAGES} maps of {SIZE}x{SIZE}: {ours:.3f} s; "
            f"scikit-learn's AUROC and AP alone: {scikit_learn:.3f} s, {scikit_learn / ours:.1f} times as long"
        )


def test_evaluate_of_83_maps(benchmark: BenchmarkFixture, test_set: tuple[np.ndarray, list[np.ndarray]]) -> None:
    maps, masks = test_set
    labels = np.arange(IMAGES) >= NORMAL
    figures = benchmark(evaluate, labels, maps.max(axis=(1, 2)), maps, masks)
    assert figures.notes == []


def test_bootstrap_interval_of_400_images(benchmark: BenchmarkFixture) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(400) >= 100
    low, high = benchmark(interval, labels, generator.normal(size=400) + labels)
    assert low < high
