"""Time of all pixel figures of one MVTec-sized test set, beside scikit-learn on the same pixels."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from conftest import Beside
from references import aupimo_by_thresholds, bootstrap, marked_pixels
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from padim_zoo.metrics import (
    NormalTail,
    aupimo_of_images,
    aupro,
    auroc,
    average_precision,
    evaluate,
    f1_at,
    f1_max,
    false_positive_rate_at,
    pixel_threshold,
    rank_pixels,
)
from padim_zoo.metrics import bootstrap_interval as interval
from padim_zoo.metrics.per_image_overlap import AUPIMO_BOUNDS
from padim_zoo.metrics.region_overlap import detected_regions

IMAGES, NORMAL, SIZE = 83, 20, 256
MOST = 4.5
"""What all metrics may take, as a multiple of one sort of the pixels."""


def least_seconds(work: Callable[[], object]) -> float:
    """The least processor time of a few calls."""
    seconds = []
    for _ in range(5):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


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
    ranking, regions = rank_pixels(list(maps), masks)
    tail = NormalTail.of([maps[image] for image in range(NORMAL)])
    overlaps = aupimo_of_images(ranking, regions, tail, IMAGES)
    regional = [aupro(ranking, regions), aupro(ranking, regions, limit=0.05), float(np.nanmean(overlaps))]
    return [auroc(ranking), average_precision(ranking), f1_max(ranking)[0], *regional]


def test_pixel_figures_of_83_maps(beside: Beside, test_set: tuple[np.ndarray, list[np.ndarray]]) -> None:
    """AUROC, AP, F1-max, AUPRO to 0.3 and 0.05, and AUPIMO, beside one sort; checked against scikit-learn."""
    maps, masks = test_set
    pixels = maps.ravel()
    found = beside(lambda: np.sort(pixels), lambda: pixel_figures(maps, masks), "one sort of the pixels")

    truth = np.stack(masks).ravel()
    start = time.perf_counter()
    expected = [roc_auc_score(truth, pixels), average_precision_score(truth, pixels)]
    scikit_learn = time.perf_counter() - start
    sort, ours = least_seconds(lambda: np.sort(pixels)), least_seconds(lambda: pixel_figures(maps, masks))

    assert found[:2] == pytest.approx(expected, abs=1e-9)
    assert not np.isnan(found).any()
    print(
        f"\nAUROC, AP, F1-max, AUPRO and AUPIMO of {IMAGES} maps of {SIZE}x{SIZE}: {ours:.3f} s, "
        f"{ours / sort:.2f} times one sort of the pixels; "
        f"scikit-learn's AUROC and AP alone: {scikit_learn:.3f} s, {scikit_learn / ours:.1f} times as long"
    )


def test_evaluate_of_83_maps(beside: Beside, test_set: tuple[np.ndarray, list[np.ndarray]]) -> None:
    """All figures from scores, maps and masks, beside one sort of all pixels.

    Before there were AUPIMO, AUPRO to 0.05, the pixel threshold and what it decides, and quarters by size, this took
    2.5 times one sort. It may take 4.5 times.
    """
    maps, masks = test_set
    labels, scores, pixels = np.arange(IMAGES) >= NORMAL, maps.max(axis=(1, 2)), maps.ravel()
    figures = beside(lambda: np.sort(pixels), lambda: evaluate(labels, scores, maps, masks), "one sort of the pixels")
    ratio = least_seconds(lambda: evaluate(labels, scores, maps, masks)) / least_seconds(lambda: np.sort(pixels))
    print(f"\nall metrics of {IMAGES} maps of {SIZE}x{SIZE}: {ratio:.2f} times one sort of the pixels, at most {MOST}")
    assert ratio <= MOST
    assert len(figures.notes) == 1  # no normal image was held out


def test_aupimo_beside_a_loop_over_thresholds(beside: Beside, test_set: tuple[np.ndarray, list[np.ndarray]]) -> None:
    """AUPIMO of the 63 anomalous images from ranked pixels, beside one threshold after the other; equal to 1e-9."""
    maps, masks = test_set
    ranking, regions = rank_pixels(list(maps), masks)

    def fast() -> np.ndarray:
        tail = NormalTail.of([maps[image] for image in range(NORMAL)])
        return aupimo_of_images(ranking, regions, tail, IMAGES)

    def literal() -> np.ndarray:
        return aupimo_by_thresholds(maps, masks, NORMAL, AUPIMO_BOUNDS)

    found = beside(literal, fast, "a loop over thresholds")
    np.testing.assert_allclose(found, literal(), atol=1e-9)


def test_metrics_at_the_pixel_threshold(beside: Beside, test_set: tuple[np.ndarray, list[np.ndarray]]) -> None:
    """Threshold, SegF1, pixel false alarms and detected regions from ranked pixels, beside plain NumPy; equal."""
    maps, masks = test_set
    ranking, regions = rank_pixels(list(maps), masks)
    numbered = [ndimage.label(mask, np.ones((3, 3)))[0] for mask in masks]

    def fast() -> tuple[float, float, float]:
        level = pixel_threshold([maps[:NORMAL]])
        return f1_at(ranking, level), false_positive_rate_at(ranking, level), detected_regions(ranking, regions, level)

    def literal() -> tuple[float, float, float]:
        return marked_pixels(maps, masks, numbered, NORMAL)

    assert beside(literal, fast, "plain NumPy") == pytest.approx(literal(), abs=1e-12)


def test_bootstrap_interval_of_400_images(beside: Beside) -> None:
    """The interval of an image AUROC, beside scikit-learn's figure on ten of the draws."""
    labels = np.arange(400) >= 100
    scores = np.random.default_rng(0).normal(size=400) + labels
    low, high = beside(
        lambda: bootstrap(labels, scores, 10), lambda: interval(labels, scores), "scikit-learn on 10 draws"
    )
    assert low < high
