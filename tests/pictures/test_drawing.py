from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from padim_zoo.core.errors import InputError
from padim_zoo.pictures.colormap import color_table, heat_map
from padim_zoo.pictures.drawing import frame, panels
from padim_zoo.pictures.overlays import boundary, highlight, overlay


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_overlay_leaves_what_is_normal_alone() -> None:
    image = random_image(8, 8)
    anomaly_map = np.zeros((8, 8))
    anomaly_map[:4] = 10.0
    picture = overlay(image, anomaly_map, (0.0, 10.0), alpha=0.5)
    np.testing.assert_array_equal(picture[4:], image[4:])
    expected = 0.5 * image[:4] + 0.5 * color_table()[255].astype(float)
    assert np.abs(picture[:4] - expected).max() <= 0.5


def test_overlay_of_no_opacity_is_the_image() -> None:
    image = random_image(8, 8)
    np.testing.assert_array_equal(overlay(image, np.full((8, 8), 5.0), (0.0, 1.0), alpha=0.0), image)
    with pytest.raises(InputError, match="between 0 and 1"):
        overlay(image, np.zeros((8, 8)), (0.0, 1.0), alpha=1.5)


def literal_boundary(image: np.ndarray, anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """Pixel by pixel: within the region, as many steps from the outside as the line is wide; or one step from it."""
    height, width = anomaly_map.shape
    reach = max(1, round(min(height, width) / 128))

    def inside(row: int, column: int) -> bool:
        return 0 <= row < height and 0 <= column < width and bool(anomaly_map[row, column] > threshold)

    def near(row: int, column: int, steps: int, wanted: bool) -> bool:
        return any(
            inside(row + down, column + right) == wanted
            for down in range(-steps, steps + 1)
            for right in range(abs(down) - steps, steps - abs(down) + 1)
        )

    drawn = image.copy()
    for row in range(height):
        for column in range(width):
            if inside(row, column) and near(row, column, reach, False):
                drawn[row, column] = (255, 40, 90)
            elif not inside(row, column) and near(row, column, 1, True):
                drawn[row, column] = (255, 255, 255)
    return drawn


@pytest.mark.parametrize(("height", "width"), [(1, 1), (9, 30), (30, 9), (200, 260)])
@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_boundary_pixel_by_pixel(height: int, width: int, sigma: float) -> None:
    anomaly_map = ndimage.gaussian_filter(np.random.default_rng(height).random((height, width)), sigma)
    image = random_image(height, width)
    for threshold in np.quantile(anomaly_map, [0.2, 0.8]):
        expected = literal_boundary(image, anomaly_map, threshold)
        np.testing.assert_array_equal(boundary(image, anomaly_map, threshold), expected)


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


def test_pixels_without_a_score_are_nobodys_anomaly() -> None:
    image = random_image(30, 30)
    anomaly_map = np.full((30, 30), np.nan)
    anomaly_map[10:20, 10:20] = 2.0
    known = ~np.isnan(anomaly_map)
    np.testing.assert_array_equal(overlay(image, anomaly_map, (0.0, 1.0))[~known], image[~known])
    np.testing.assert_array_equal(highlight(image, anomaly_map, 1.0)[known], image[known])
    zero = np.nan_to_num(anomaly_map)
    np.testing.assert_array_equal(boundary(image, anomaly_map, 1.0), boundary(image, zero, 1.0))
    np.testing.assert_array_equal(highlight(image, anomaly_map, 1.0), highlight(image, zero, 1.0))


def test_highlight_keeps_the_region_and_dims_the_rest() -> None:
    image = random_image(20, 30)
    anomaly_map = np.zeros((20, 30))
    anomaly_map[5:9, 3:8] = 2.0
    picture = highlight(image, anomaly_map, 1.0)
    gray = np.asarray(Image.fromarray(image).convert("L")).astype(float)
    for row in range(20):
        for column in range(30):
            if 5 <= row < 9 and 3 <= column < 8:
                np.testing.assert_array_equal(picture[row, column], image[row, column])
            elif (row in (4, 9) and 3 <= column < 8) or (column in (2, 8) and 5 <= row < 9):  # the line around it
                assert (picture[row, column] == 255).all()
            else:
                assert np.abs(picture[row, column] - 0.4 * gray[row, column]).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(224, 224), (96, 160), (64, 64), (7, 5)])
@pytest.mark.parametrize("score", [2.0, 1.0])
def test_frame_tells_the_decision(height: int, width: int, score: float) -> None:
    image = random_image(height, width)
    picture = frame(image, score, 1.0)
    border = (picture.shape[1] - width) // 2
    assert border >= 2
    np.testing.assert_array_equal(picture[border : border + height, border : border + width], image)
    red, green, _ = picture[0, 0].astype(int)
    assert (red > 2 * green) if score > 1 else (green > red)  # exactly the threshold is normal
    for edge in (picture[:border], picture[:, :border], picture[:, -border:], picture[-border:]):
        assert (edge[:1, :1] == picture[0, 0]).all()
    assert len(np.unique(picture[border + height :].reshape(-1, 3), axis=0)) > 2  # there is text


def test_a_gray_image_is_drawn_as_one_of_three_equal_channels() -> None:
    gray = random_image(40, 50)[..., 0]
    anomaly_map = np.random.default_rng(1).random((40, 50))
    color = np.repeat(gray[..., None], 3, axis=2)
    for given_ in (gray, gray[..., None]):
        np.testing.assert_array_equal(
            panels(given_, None, anomaly_map, (0.0, 1.0), 0.9), panels(color, None, anomaly_map, (0.0, 1.0), 0.9)
        )
        np.testing.assert_array_equal(highlight(given_, anomaly_map, 0.9), highlight(color, anomaly_map, 0.9))


def test_what_cannot_be_drawn_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"900x900 and the map 8x8: expected .* detector.transform.image"):
        overlay(random_image(900, 900), np.zeros((8, 8)), (0.0, 1.0))
    with pytest.raises(InputError, match="float64 and shape"):
        boundary(np.zeros((8, 8, 3)), np.zeros((8, 8)), 1.0)
    with pytest.raises(InputError, match=r"\(8, 8, 4\)"):
        highlight(np.zeros((8, 8, 4), dtype=np.uint8), np.zeros((8, 8)), 1.0)
    with pytest.raises(InputError, match="the mask is 4x4"):
        panels(random_image(8, 8), np.zeros((4, 4), dtype=bool), np.zeros((8, 8)), (0.0, 1.0), 1.0)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("height", "width"), [(224, 224), (96, 160), (7, 5)])
def test_panels_stand_side_by_side(height: int, width: int, known: bool) -> None:
    image = random_image(height, width)
    anomaly_map = np.random.default_rng(1).random((height, width))
    mask = anomaly_map > 0.5 if known else None
    sheet = panels(image, mask, anomaly_map, (0.0, 1.0), 0.9)
    count = 4 + known
    gap = (sheet.shape[1] - count * width) // (count + 1)
    columns = [sheet[-gap - height : -gap, gap + i * (width + gap) :][:, :width] for i in range(count)]
    np.testing.assert_array_equal(columns[0], image)
    if mask is not None:
        np.testing.assert_array_equal(columns[1], np.where(mask, 255, 0)[..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(columns[-3], heat_map(anomaly_map, (0.0, 1.0)))
    np.testing.assert_array_equal(columns[-2], overlay(image, anomaly_map, (0.0, 1.0)))
    np.testing.assert_array_equal(columns[-1], boundary(image, anomaly_map, 0.9))
