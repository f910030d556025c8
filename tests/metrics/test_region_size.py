"""Regions by quarters of their area, against a loop over regions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padim_zoo.metrics import METRICS, aupro, evaluate, rank_pixels
from padim_zoo.metrics.region_overlap import area_quartiles, aupro_of_quarter, detected_regions

AREAS = (1, 2, 3, 3, 8, 9, 20, 30)


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray]:
    """Eight images, each with one region."""
    generator = np.random.default_rng(1)
    maps, masks = generator.normal(size=(8, 12, 40)).astype(np.float32), np.zeros((8, 12, 40), dtype=bool)
    for image, area in enumerate(AREAS):
        masks[image, 5, :area] = True
    maps[masks] += 1
    return maps, masks


def test_quarters_of_the_areas(case) -> None:
    maps, masks = case
    _, regions = rank_pixels(maps, masks)
    assert area_quartiles(regions) == pytest.approx(np.quantile(AREAS, (0.25, 0.5, 0.75)))
    # 1 and 2; both of 3; 8 and 9; 20 and 30.
    quarters = {1: [0, 1], 2: [2, 3], 3: [4, 5], 4: [6, 7]}
    ranking, _ = rank_pixels(maps, masks)
    for quarter, images in quarters.items():
        # The rest of the regions is neither normal nor of this quarter.
        others = [image for image in range(8) if image not in images]
        roi_masks = [~masks[image] if image in others else np.ones((12, 40), dtype=bool) for image in range(8)]
        assert aupro_of_quarter(ranking, regions, quarter) == pytest.approx(aupro(*rank_pixels(maps, masks, roi_masks)))
        detected = [maps[image][masks[image]].max() > 1.5 for image in images]
        assert detected_regions(ranking, regions, 1.5, quarter) == np.mean(detected)
    means = [aupro_of_quarter(ranking, regions, quarter) for quarter in quarters]
    assert np.mean(means) == pytest.approx(aupro(ranking, regions))
    assert detected_regions(ranking, regions, 1.5) == np.mean([maps[i][masks[i]].max() > 1.5 for i in range(8)])


def test_regions_of_one_area_stay_together() -> None:
    masks = np.zeros((3, 4, 4), dtype=bool)
    masks[:, 0, 0] = True
    ranking, regions = rank_pixels(masks.astype(np.float32), masks)
    assert aupro_of_quarter(ranking, regions, 1) == 1
    assert all(math.isnan(aupro_of_quarter(ranking, regions, quarter)) for quarter in (2, 3, 4))


def test_an_evaluation_has_them_with_the_areas_in_pixels(case) -> None:
    maps, masks = case
    labels = np.array([0] + [1] * 8)
    maps = np.concatenate([np.zeros((1, 12, 40), np.float32), maps])
    values = evaluate(labels, maps.max((1, 2)), maps, [None, *masks], pixel_threshold=1.5).values
    assert [values[f"region_area_{percent}"] for percent in (25, 50, 75)] == np.quantile(
        AREAS, (0.25, 0.5, 0.75)
    ).tolist()
    assert np.mean([values[f"aupro_q{quarter}"] for quarter in (1, 2, 3, 4)]) == pytest.approx(values["aupro"])
    detected = [values[f"region_detections_q{quarter}"] for quarter in (1, 2, 3, 4)]
    assert np.mean(detected) == pytest.approx(values["region_detections"])


def test_without_masks_they_are_undefined(case) -> None:
    maps, _ = case
    values = evaluate(np.array([0, 1] * 4), maps.max((1, 2)), maps).values
    assert all(math.isnan(values[name]) for name, metric in METRICS.items() if metric.quarter is not None)
    assert math.isnan(values["region_area_50"])
