"""AUPIMO beside anomalib's, which samples thresholds where padim-zoo takes every one.

Where anomalib is installed, its own functions are asked. The rule of its first versions, the nearest of 300,000 evenly
spaced thresholds, is written out here and compared everywhere.
"""

from __future__ import annotations

import numpy as np
import pytest

from padim_zoo.metrics import NormalTail, aupimo_of_images, evaluate, rank_pixels

BOUNDS = (1e-5, 1e-4)
NORMAL, ANOMALOUS, SIZE = 17, 5, 256


@pytest.fixture(scope="module")
def test_set() -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps (N, H, W), the normal images first, and masks of one or two defects that raise them by degrees."""
    ndimage = pytest.importorskip("scipy.ndimage")
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(NORMAL + ANOMALOUS, SIZE, SIZE)).astype(np.float32)
    maps = np.stack([ndimage.gaussian_filter(one, 3) * 8 for one in noise])
    masks = np.zeros(maps.shape, dtype=bool)
    for number, image in enumerate(range(NORMAL, NORMAL + ANOMALOUS)):
        masks[image, 40:70, 50:90] = True
        masks[image, 150:160, 30 : 40 + 5 * number] = True
        maps[image][masks[image]] += 2.5 + 0.6 * number
    return maps, masks


def nearest_of_many(
    maps: np.ndarray, masks: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What anomalib's first versions do: evenly spaced thresholds, the bounds at the ones of the nearest rates.

    Returns thresholds (K,), shared rates (K,) and overlaps (N, K) between the bounds, and the areas (N,).
    """
    normal = maps[~masks.any(axis=(1, 2))]
    thresholds = np.linspace(normal.min(), normal.max(), count, dtype=maps.dtype)
    shared = np.mean([1 - np.searchsorted(np.sort(one, axis=None), thresholds) / one.size for one in normal], axis=0)
    last, first = (int(np.argmin(np.abs(shared - rate))) for rate in BOUNDS)
    thresholds, shared = thresholds[first : last + 1], shared[first : last + 1]
    overlaps = np.full((len(maps), len(thresholds)), np.nan)
    for image in np.flatnonzero(masks.any(axis=(1, 2))):
        defect = np.sort(maps[image][masks[image]])
        overlaps[image] = 1 - np.searchsorted(defect, thresholds) / len(defect)
    rates = np.log(shared[::-1])
    areas = ((overlaps[:, ::-1][:, 1:] + overlaps[:, ::-1][:, :-1]) / 2 * np.diff(rates)).sum(axis=1)
    return thresholds, shared, overlaps, (areas / np.log(BOUNDS[1] / BOUNDS[0])).clip(0, 1)


def compare(maps: np.ndarray, masks: np.ndarray, thresholds, shared, overlaps, areas) -> None:
    """Rates and overlaps at given thresholds are ours exactly, areas within a hundredth."""
    ranking, regions = rank_pixels(maps, masks)
    tail = NormalTail.of(list(maps[:NORMAL]), BOUNDS)
    in_tail = thresholds >= tail.scores[0]
    assert in_tail.sum() > 100
    np.testing.assert_allclose(tail.rates_at(thresholds[in_tail]), shared[in_tail], rtol=1e-9)
    of_pixels = regions.images[regions.ids]
    for number in np.linspace(0, len(thresholds) - 1, 25).astype(int):
        found = np.bincount(of_pixels[ranking.anomalous >= thresholds[number]], minlength=len(maps))
        shares = found[NORMAL:] / np.bincount(of_pixels)[NORMAL:]
        np.testing.assert_allclose(shares, overlaps[NORMAL:, number], atol=1e-12)
    ours = aupimo_of_images(ranking, regions, tail, len(maps))
    np.testing.assert_allclose(ours[NORMAL:], areas[NORMAL:], atol=1e-2)
    assert 0.05 < ours[NORMAL:].min() < ours[NORMAL:].max()  # neither all nothing nor all found
    labels = np.arange(len(maps)) >= NORMAL
    evaluated = evaluate(labels, maps.max((1, 2)), maps, list(masks)).per_image["aupimo"]
    np.testing.assert_allclose(evaluated, ours, atol=1e-6)


def test_the_rule_of_its_first_versions(test_set):
    maps, masks = test_set
    compare(maps, masks, *nearest_of_many(maps, masks, 300_000))


def test_anomalib_itself(test_set):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("anomalib.metrics.pimo.functional")
    maps, masks = test_set
    found = functional.aupimo_scores(
        torch.from_numpy(maps), torch.from_numpy(masks), fpr_bounds=BOUNDS, num_thresholds=300_000
    )
    thresholds, shared, overlaps, _, areas, _ = (np.asarray(part) for part in found)
    compare(maps, masks, thresholds, shared, overlaps, areas)
