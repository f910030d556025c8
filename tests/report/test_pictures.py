from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_zoo.report.pictures import boundary, colour_table, from_oklab, heat_map, overlay, panels, to_oklab


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_oklab_of_known_colours() -> None:
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], dtype=np.uint8)
    # Ottosson's reference implementation: red is (0.62796, 0.22486, 0.12585).
    expected = [[1, 0, 0], [0, 0, 0], [0.62796, 0.22486, 0.12585]]
    np.testing.assert_allclose(to_oklab(colours), expected, atol=1e-4)


def test_oklab_round_trip() -> None:
    image = random_image(20, 20)
    np.testing.assert_array_equal(from_oklab(to_oklab(image)), image)


def test_colours_grow_lighter_by_equal_steps() -> None:
    table = colour_table()
    assert table.shape == (256, 3)
    steps = np.diff(to_oklab(table)[:, 0])
    assert (steps > 0).all()
    assert np.abs(steps - steps.mean()).max() < 0.003  # 8-bit rounding


@given(st.integers(1, 40), st.integers(1, 40), st.floats(-5, 5), st.floats(0.1, 10))
def test_heat_map_looks_every_pixel_up(height: int, width: int, low: float, span: float) -> None:
    anomaly_map = np.random.default_rng(0).normal(0, 10, (height, width)).astype(np.float32)
    picture = heat_map(anomaly_map, (low, low + span))
    for row in range(height):
        for column in range(width):
            position = min(max((float(anomaly_map[row, column]) - low) / span, 0), 1)
            np.testing.assert_array_equal(picture[row, column], colour_table()[round(position * 255)])


def test_heat_map_does_not_depend_on_the_rest_of_the_map() -> None:
    calm, wild = np.full((4, 4), 3.0), np.full((4, 4), 3.0)
    wild[0, 0] = 1000.0
    np.testing.assert_array_equal(heat_map(calm, (0, 10))[1:], heat_map(wild, (0, 10))[1:])


def test_scale_has_to_rise() -> None:
    with pytest.raises(ValueError, match="rises"):
        heat_map(np.zeros((2, 2)), (1.0, 1.0))


def test_overlay_leaves_what_is_normal_alone() -> None:
    image = random_image(8, 8)
    anomaly_map = np.zeros((8, 8))
    anomaly_map[:4] = 10.0
    picture = overlay(image, anomaly_map, (0.0, 10.0), alpha=0.5)
    np.testing.assert_array_equal(picture[4:], image[4:])
    expected = 0.5 * image[:4] + 0.5 * colour_table()[255].astype(float)
    assert np.abs(picture[:4] - expected).max() <= 0.5


def test_boundary_surrounds_the_region_only() -> None:
    image = np.zeros((60, 60, 3), dtype=np.uint8)
    anomaly_map = np.zeros((60, 60))
    anomaly_map[20:40, 10:30] = 2.0
    picture = boundary(image, anomaly_map, 1.0)
    changed = (picture != image).any(axis=2)
    assert changed[20, 10:30].all()
    assert changed[20:40, 29].all()
    assert not changed[25:35, 15:25].any()
    assert not changed[:18].any()
    assert not image.any()


def test_boundary_at_the_edge_of_the_image_is_drawn() -> None:
    picture = boundary(np.zeros((20, 20, 3), dtype=np.uint8), np.ones((20, 20)), 0.5)
    assert picture[0].any(axis=1).all()
    assert not picture[10, 10].any()


def test_boundary_of_nothing_is_the_image() -> None:
    image = random_image(20, 30)
    np.testing.assert_array_equal(boundary(image, np.zeros((20, 30)), 0.5), image)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("height", "width"), [(224, 224), (96, 160), (7, 5)])
def test_panels_stand_side_by_side(height: int, width: int, known: bool) -> None:
    image = random_image(height, width)
    anomaly_map = np.random.default_rng(1).random((height, width))
    mask = anomaly_map > 0.5 if known else None
    sheet = panels(image, mask, anomaly_map, (0.0, 1.0), 0.9)
    gap = (sheet.shape[1] - 5 * width) // 6
    columns = [sheet[-gap - height : -gap, gap + i * (width + gap) :][:, :width] for i in range(5)]
    np.testing.assert_array_equal(columns[0], image)
    if mask is None:
        assert len(np.unique(columns[1])) == 1
    else:
        np.testing.assert_array_equal(columns[1], np.where(mask, 255, 0)[..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(columns[2], heat_map(anomaly_map, (0.0, 1.0)))
    np.testing.assert_array_equal(columns[3], overlay(image, anomaly_map, (0.0, 1.0)))
    np.testing.assert_array_equal(columns[4], boundary(image, anomaly_map, 0.9))
