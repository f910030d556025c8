"""Small defects and large ones apart: regions in quarters by their area."""

from __future__ import annotations

import math

import numpy as np

from padim_zoo.metrics.ranking import Ranking
from padim_zoo.metrics.region_overlap import AUPRO_LIMIT, Regions, region_overlaps

QUARTERS = (1, 2, 3, 4)
"""From the smallest to the largest regions."""


def area_quartiles(regions: Regions) -> np.ndarray:
    """The three areas, in pixels of the maps, that part the regions into quarters: float64 (3,), NaN without regions.

    A region belongs to the first quarter whose upper area is no less than its own. So regions of one area stay
    together, and a quarter may be empty where there are few regions.
    """
    areas = regions.areas
    quartiles: np.ndarray = np.quantile(areas, (0.25, 0.5, 0.75)) if len(areas) else np.full(3, math.nan)
    return quartiles


def aupro_of_quarter(ranking: Ranking, regions: Regions, quarter: int) -> float:
    """AUPRO of the regions of a quarter (1 to 4) among all normal pixels; NaN if there are none."""
    if not ranking.defined:
        return math.nan
    return _mean_of_quarter(region_overlaps(ranking, regions, AUPRO_LIMIT), regions, quarter)


def detected_regions(ranking: Ranking, regions: Regions, threshold: float, quarter: int | None = None) -> float:
    """The share of regions that have a pixel above the threshold, of all or of a quarter; NaN if there are none."""
    if math.isnan(threshold) or not len(regions.images):
        return math.nan
    detected = np.zeros(len(regions.images))
    detected[regions.ids[ranking.anomalous > threshold]] = 1
    return float(detected.mean()) if quarter is None else _mean_of_quarter(detected, regions, quarter)


def _mean_of_quarter(values: np.ndarray, regions: Regions, quarter: int) -> float:
    """The mean of values of regions (R,) over those of a quarter."""
    members = values[np.searchsorted(area_quartiles(regions), regions.areas, side="left") + 1 == quarter]
    return float(members.mean()) if len(members) else math.nan
