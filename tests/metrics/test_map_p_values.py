"""P-values of pixels against a literal count, and what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padim_zoo.core.errors import InputError
from padim_zoo.metrics.map_p_values import (
    LARGEST,
    LEAST_SPREAD,
    PARTS,
    NormalMaps,
    cell_maxima,
    cell_size,
    envelopes,
)


def literal_value(score: float, others: list[float], places: int, least_spread: float) -> float:
    """-log10 of the p-value of a score among those of other images, one by one."""
    others = sorted(one for one in others if not math.isnan(one))
    if len(others) < 2:
        return 0.0
    as_high = sum(one >= score for one in others)
    if as_high == 0:
        spread = max(float(np.std(others, ddof=1)), least_spread)
        value = -math.log10(2 / places) + (score - others[-1]) / spread / math.log(10)
    elif as_high == len(others):
        value = -math.log10((1 + as_high) / places)
    else:
        low, high = others[len(others) - as_high - 1], others[len(others) - as_high]
        from_p, to_p = (2 + as_high) / places, (1 + as_high) / places
        value = -math.log10(from_p) + (score - low) / (high - low) * (math.log10(from_p) - math.log10(to_p))
    return min(max(value, 0.0), LARGEST)


def literal_maximum(anomaly_map: np.ndarray, row: int, column: int, size: int) -> float:
    pixels = anomaly_map[row * size : (row + 1) * size, column * size : (column + 1) * size]
    return float(np.nanmax(pixels)) if (~np.isnan(pixels)).any() else math.nan


def literal_envelope(maxima: np.ndarray, y: float, x: float) -> float:
    """Between the four corners of a cell, each the highest of the cells that meet there; positions are in cells."""
    rows, columns = maxima.shape

    def corner(row: int, column: int) -> float:
        meeting = [
            maxima[i, j] for i in (row - 1, row) for j in (column - 1, column) if 0 <= i < rows and 0 <= j < columns
        ]
        return float(np.nanmax(meeting))

    row, column = int(y), int(x)
    if math.isnan(maxima[row, column]):
        return math.nan
    down, right = y - row, x - column
    upper = (1 - right) * corner(row, column) + right * corner(row, column + 1)
    lower = (1 - right) * corner(row + 1, column) + right * corner(row + 1, column + 1)
    return (1 - down) * upper + down * lower


def literal_least_spread(of_places: list[list[float]]) -> float:
    spreads = []
    for scores in of_places:
        there = [one for one in scores if not math.isnan(one)]
        if there:
            spreads.append(float(np.std(there, ddof=1)) if len(there) > 1 else 0.0)
    return LEAST_SPREAD * float(np.median(spreads))


def made_up_maps(random: np.random.Generator, n: int, height: int, width: int) -> np.ndarray:
    maps = random.gamma(4.0, size=(n, height, width)).astype(np.float32)
    maps[:, :, width // 2 :] *= 5
    return maps


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_values_are_those_of_a_literal_count(holes: bool, grouped: bool) -> None:
    random = np.random.default_rng(3)
    normal, maps = made_up_maps(random, 9, 20, 27), made_up_maps(random, 2, 20, 27) * 1.5
    if holes:
        normal[:, :8, :8] = np.nan
        normal[2:, 8:16, :8] = np.nan  # two images are left
        normal[4, :, 16:] = np.nan
        maps[0, 3, 20] = np.nan
    groups = np.array([0, 0, 0, 1, 2, 3, 4, 5, 5]) if grouped else np.arange(9)
    size = cell_size(20, 27)
    maxima = np.stack([cell_maxima(one) for one in normal])
    rows, columns = maxima.shape[1:]
    of_group = np.full((len(np.unique(groups)), rows, columns), np.nan)
    for number, group in enumerate(np.unique(groups)):
        for row, column in np.ndindex(rows, columns):
            there = [literal_maximum(normal[image], row, column, size) for image in np.flatnonzero(groups == group)]
            there = [one for one in there if not math.isnan(one)]
            of_group[number, row, column] = max(there, default=math.nan)

    compared = NormalMaps(maxima, groups if grouped else None)
    values, side = compared.values(maps), size // PARTS
    at_parts = {
        (y, x): [literal_envelope(one, (y + 0.5) / PARTS, (x + 0.5) / PARTS) for one in of_group]
        for y in range(rows * PARTS)
        for x in range(columns * PARTS)
    }
    least_spread = literal_least_spread(list(at_parts.values()))
    for image, y, x in np.ndindex(maps.shape):
        score = float(maps[image, y, x])
        if math.isnan(score):
            assert math.isnan(values[image, y, x])
            continue
        others = at_parts[y // side, x // side]
        places = 1 + sum(not math.isnan(one) for one in others)
        expected = literal_value(score, others, places, least_spread)
        assert values[image, y, x] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    least_spread = literal_least_spread([list(of_group[:, row, column]) for row, column in np.ndindex(rows, columns)])
    for image in range(len(normal)):
        of_normal = compared.values_of_normal(image)
        for row, column in np.ndindex(rows, columns):
            score = literal_maximum(normal[image], row, column, size)
            if math.isnan(score):
                assert math.isnan(of_normal[row, column])
                continue
            others = list(of_group[np.unique(groups) != groups[image], row, column])
            places = 2 + sum(not math.isnan(one) for one in others)
            expected = literal_value(score, others, places, least_spread)
            assert of_normal[row, column] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_envelopes_lie_above_their_maps() -> None:
    normal = made_up_maps(np.random.default_rng(5), 3, 50, 41)
    size = cell_size(50, 41)
    highest = envelopes(np.stack([cell_maxima(one) for one in normal]))
    wide = highest.repeat(size // PARTS, 1).repeat(size // PARTS, 2)[:, :50, :41]
    assert (wide >= normal * (1 - 1e-6)).all()


def test_ties_never_make_a_pixel_rarer_than_its_rank() -> None:
    normal = np.zeros((4, 8, 8), dtype=np.float32)
    normal[3] = 1
    values = NormalMaps(np.stack([cell_maxima(one) for one in normal])).values(np.array([[[0.0, 1.0]]]).repeat(4, 1))
    assert values[0, 0, 0] == 0  # all four are as high
    assert values[0, 0, 1] == pytest.approx(-math.log10(2 / 5))


def test_a_pixel_is_as_rare_as_promised() -> None:
    """Of normal images, no larger share has p-values of at most a rate, wherever ranks tell it."""
    random = np.random.default_rng(0)
    m, draws = 19, 4000
    rates = np.array([0.05, 0.1, 0.2, 0.5])
    as_rare = np.zeros(len(rates))
    for _ in range(draws):
        scores = random.standard_t(3, size=m + 1).astype(np.float32)
        compared = NormalMaps(scores[:m].reshape(m, 1, 1))
        value = compared.values(scores[m:].reshape(1, 1, 1))[0, 0, 0]
        as_rare += value >= -np.log10(rates) - 1e-6
    shares = as_rare / draws
    assert (shares <= rates + 3 * np.sqrt(rates / draws)).all()
    assert (shares >= rates - 1.5 / (m + 1)).all()  # and not much smaller


def test_the_highest_value_of_a_new_image_exceeds_a_threshold_as_promised() -> None:
    """Thresholds on the values of normal images among each other hold for a new image, of many cells."""
    random = np.random.default_rng(1)
    m, draws, rate = 39, 400, 0.1
    alarms = 0
    for _ in range(draws):
        common = random.gamma(4, size=(m + 1, 1, 1))
        maps = (common * random.gamma(6, size=(m + 1, 6, 6)) * np.linspace(1, 9, 6)).astype(np.float32)
        compared = NormalMaps(maps[:m])
        normal = np.array([compared.values_of_normal(image).max() for image in range(m)])
        threshold = np.sort(normal)[math.ceil((m + 1) * (1 - rate)) - 1]
        wide = maps[m:].repeat(8, 1).repeat(8, 2)
        alarms += compared.values(wide).max() > threshold
    assert alarms / draws <= rate + 2 * math.sqrt(rate * (1 - rate) / draws)
    assert alarms / draws >= rate / 3


def test_too_few_images_and_other_sizes_are_refused() -> None:
    maxima = np.zeros((4, 2, 2), dtype=np.float32)
    with pytest.raises(InputError, match="3 or more different normal images, found 2"):
        NormalMaps(maxima, np.array([0, 0, 1, 1]))
    with pytest.raises(InputError, match="maps of 40x16 are not"):
        NormalMaps(maxima).values(np.zeros((1, 40, 16), dtype=np.float32))
