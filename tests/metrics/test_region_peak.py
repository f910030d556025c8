"""The highest threshold at which a map shows a region, against a search of every level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from padim_zoo.metrics.region_peak import region_peaks

AREAS = (1, 4, 16, 64, 256)


def areas_of_regions(marked: np.ndarray) -> list[int]:
    """Areas of the regions of a mask, filled pixel by pixel."""
    left = set(zip(*np.nonzero(marked), strict=True))
    areas = []
    while left:
        waiting, area = [left.pop()], 0
        while waiting:
            y, x = waiting.pop()
            area += 1
            for neighbor in [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if neighbor in left:
                    left.remove(neighbor)
                    waiting.append(neighbor)
        areas.append(area)
    return areas


def literal_peak(anomaly_map: np.ndarray, area: int) -> float:
    levels = np.unique(anomaly_map[~np.isnan(anomaly_map)])[::-1]
    for level in levels:
        if max(areas_of_regions(anomaly_map >= level)) >= area:
            return float(level)
    return float(levels[-1])


def maps() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    noise = [random.random((12, 9)).astype(np.float32) for _ in range(6)]
    smooth = [ndimage.gaussian_filter(random.random((16, 16)), 2).astype(np.float32) for _ in range(3)]
    tied = [random.integers(0, 3, (10, 10)).astype(np.float32) for _ in range(6)]
    partly = [np.where(random.random((10, 10)) < 0.4, np.float32(np.nan), one) for one in tied]
    return [*noise, *smooth, *tied, *partly, np.zeros((4, 4), dtype=np.float32)]


@pytest.mark.parametrize("area", [1, 2, 3, 4, 7, 16, 60, 108, 500])
def test_peaks_are_the_literal_ones(area):
    for one in maps():
        assert region_peaks(one, (area,))[0] == literal_peak(one, area)


def test_several_areas_share_what_they_find():
    for one in maps():
        expected = [region_peaks(one, (area,))[0] for area in AREAS]
        assert region_peaks(one, AREAS).tolist() == expected
        assert region_peaks(one, AREAS[::-1]).tolist() == expected[::-1]


def test_a_map_shows_a_region_exactly_below_its_peak():
    for one in maps():
        for area in (1, 3, 8):
            if area > max(areas_of_regions(~np.isnan(one))):
                continue
            peak = region_peaks(one, (area,))[0]
            for threshold in np.unique(one[~np.isnan(one)]):
                shown = max(areas_of_regions(one > threshold), default=0) >= area
                assert shown == (peak > threshold)
