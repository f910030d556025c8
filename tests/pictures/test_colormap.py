"""Scores to colors on one scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_zoo.core.errors import InputError
from padim_zoo.pictures.colormap import color_table, from_oklab, heat_map, scale_of_maps, to_oklab


def test_oklab_of_known_colors() -> None:
    colors = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], dtype=np.uint8)
    # Ottosson's reference implementation: red is (0.62796, 0.22486, 0.12585).
    expected = [[1, 0, 0], [0, 0, 0], [0.62796, 0.22486, 0.12585]]
    np.testing.assert_allclose(to_oklab(colors), expected, atol=1e-4)


def test_oklab_round_trip() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    np.testing.assert_array_equal(from_oklab(to_oklab(image)), image)


def test_colors_grow_lighter_by_equal_steps() -> None:
    table = color_table()
    assert table.shape == (256, 3)
    steps = np.diff(to_oklab(table)[:, 0])
    assert (steps > 0).all()
    assert np.abs(steps - steps.mean()).max() < 0.003  # 8-bit rounding


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(-5, 5), st.floats(0.1, 10))
def test_heat_map_looks_every_pixel_up(height: int, width: int, low: float, span: float) -> None:
    anomaly_map = np.random.default_rng(0).normal(0, 10, (height, width)).astype(np.float32)
    picture = heat_map(anomaly_map, (low, low + span))
    for row in range(height):
        for column in range(width):
            position = min(max((float(anomaly_map[row, column]) - low) / span, 0), 1)
            np.testing.assert_array_equal(picture[row, column], color_table()[round(position * 255)])


def test_heat_map_does_not_depend_on_the_rest_of_the_map() -> None:
    calm, wild = np.full((4, 4), 3.0), np.full((4, 4), 3.0)
    wild[0, 0] = 1000.0
    np.testing.assert_array_equal(heat_map(calm, (0, 10))[1:], heat_map(wild, (0, 10))[1:])


def test_scale_has_to_rise() -> None:
    with pytest.raises(ValueError, match="rises"):
        heat_map(np.zeros((2, 2)), (1.0, 1.0))


def test_a_pixel_without_a_score_is_gray() -> None:
    anomaly_map = np.array([[np.nan, 0.0], [np.inf, -np.inf]])
    picture = heat_map(anomaly_map, (0, 1))
    first, last = color_table()[[0, 255]]
    np.testing.assert_array_equal(picture, [[[128, 128, 128], first], [last, first]])


def test_color_maps_of_matplotlib() -> None:
    colormaps = pytest.importorskip("matplotlib").colormaps
    table = color_table("viridis")
    np.testing.assert_allclose(table, 255 * np.array(colormaps["viridis"].colors), atol=0.5)
    assert (color_table("gray") == np.arange(256)[:, None]).all()
    with pytest.raises(InputError, match="did you mean viridis"):
        color_table("virids")


def test_a_color_table_cannot_be_spoilt() -> None:
    with pytest.raises(ValueError, match="read-only"):
        color_table()[0] = 0


def test_a_color_table_is_built_once() -> None:
    assert color_table() is color_table()


def test_a_scale_is_taken_of_any_pair_and_remembers_none() -> None:
    scale, map_threshold = scale_of_maps(2.0, [1.0, 3.0], score_is_map_maximum=True)  # a list, as JSON gives it
    assert (scale, map_threshold) == ((1.0, 2.5), 2.0)
    assert not hasattr(scale_of_maps, "cache_info")
