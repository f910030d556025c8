"""Views of images: warps against scipy and Pillow, maps brought back, strict reading, draws by seed and pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy.ndimage import map_coordinates

from padim_zoo import InputError
from padim_zoo.data.augmentation import (
    Augmentation,
    View,
    ViewSet,
    canonical_operations,
    parse_operations,
    views_for_scoring,
)
from padim_zoo.data.transform import Transform
from padim_zoo.data.view import mean_of_views

BOX = (6, 8, 46, 72)


@pytest.fixture
def resized(smooth_image: Callable[[int, int], np.ndarray]) -> np.ndarray:
    return smooth_image(52, 80)


def literal_warp(resized: np.ndarray, view: View) -> np.ndarray:
    """One pixel after the other: where of the image it comes from."""
    top, left, bottom, right = BOX
    height, width = bottom - top, right - left
    angle = np.radians(view.angle)
    warped = np.empty((height, width, 3))
    for row, column in np.ndindex(height, width):
        x, y = column + 0.5 - width / 2, row + 0.5 - height / 2
        x, y = (-x if view.flip else x), (-y if view.vflip else y)
        # Turned back clockwise: up (0, -1) of the image had been turned to the left.
        x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
        x, y = (
            x - view.translation[0] * width + (left + right) / 2,
            y - view.translation[1] * height + (top + bottom) / 2,
        )
        for channel in range(3):
            at = [[y - 0.5], [x - 0.5]]
            warped[row, column, channel] = map_coordinates(
                resized[..., channel].astype(float), at, order=1, mode="reflect"
            )[0]
    return warped


@pytest.mark.parametrize(
    "view",
    [
        View(angle=7),
        View(angle=-40, flip=True),
        View(translation=(0.1, -0.2)),
        View(angle=15, vflip=True, translation=(0, 0.3)),
    ],
)
def test_a_view_is_what_it_says(resized, view):
    np.testing.assert_allclose(view.image(resized, BOX), literal_warp(resized, view), atol=1.01)


def test_a_turn_is_that_of_pillow(resized):
    square = resized[:, :52]
    turned = np.asarray(Image.fromarray(square).rotate(30, Image.Resampling.BILINEAR))
    found = View(angle=30).image(square, (0, 0, 52, 52))
    np.testing.assert_allclose(found[20:32, 20:32].astype(int), turned[20:32, 20:32], atol=1)


def test_mirroring_copies_pixels(resized):
    cropped = Image.fromarray(resized[6:46, 8:72])
    np.testing.assert_array_equal(View(flip=True).image(resized, BOX), np.asarray(ImageOps.mirror(cropped)))
    np.testing.assert_array_equal(View(vflip=True).image(resized, BOX), np.asarray(ImageOps.flip(cropped)))
    np.testing.assert_array_equal(View().image(resized, BOX), np.asarray(cropped))


def test_brightness_and_contrast(resized):
    cropped = resized[6:46, 8:72].astype(float)
    np.testing.assert_array_equal(View(brightness=1.5).image(resized, BOX), np.rint(cropped * 1.5).clip(0, 255))
    expected = np.rint(cropped.mean() + 0.5 * (cropped - cropped.mean()))
    np.testing.assert_array_equal(View(contrast=0.5).image(resized, BOX), expected)


@pytest.mark.parametrize(
    "view", [View(), View(flip=True), View(angle=12), View(angle=-20, flip=True, translation=(0.1, 0))]
)
def test_a_map_of_a_view_comes_back_to_the_pixels_of_the_image(resized, view):
    """Brightness stands for the map: what comes back is the image, wherever the view shows it."""
    seen_image = view.image(resized, BOX)[..., 0]
    restored, seen = view.restore(torch.from_numpy(seen_image.astype(np.float32))[None])
    cropped = resized[6:46, 8:72, 0].astype(float)
    assert seen.float().mean() > 0.7
    assert seen.all() == (not view.resamples)
    np.testing.assert_allclose(restored[0][seen].numpy(), cropped[seen.numpy()], atol=7)  # half a pixel at the edge
    assert (restored[0][~seen] == 0).all()


def test_the_mean_is_over_the_views_that_show_a_pixel():
    views = views_for_scoring(parse_operations("tta", "flip,rotate(30)"))
    assert views == (View(), View(flip=True), View(angle=-30), View(angle=30))
    ones = mean_of_views(torch.ones(2, 4, 40, 64), views)
    torch.testing.assert_close(ones, torch.ones(2, 40, 64))
    maps = torch.rand(2, 4, 40, 64)
    parts = [view.restore(maps[:, number]) for number, view in enumerate(views)]
    for row, column in ((0, 0), (20, 30), (39, 60)):
        values = [restored[:, row, column] for restored, seen in parts if seen[row, column]]
        torch.testing.assert_close(mean_of_views(maps, views)[:, row, column], torch.stack(values).mean(0))


def test_what_a_turn_brings_in_from_outside_is_known(resized):
    """Of the crop's own margin nothing is from outside; of a whole image the corners are."""
    image = np.repeat(resized[:52, :52, :1], 3, 2)
    view_set = ViewSet(others=(View(angle=10),))
    assert view_set.of(image, Transform(None, 30))[1] is None
    _, roi_masks = view_set.of(image, Transform(None, None))
    assert roi_masks is not None
    assert roi_masks[0].all()
    assert not roi_masks[1][[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert roi_masks[1].mean() > 0.9


def test_draws_depend_on_seed_and_pixels_alone(resized):
    operations = parse_operations("augment", "flip,rotate(10),translate(0.1),brightness(0.2)")
    views = Augmentation(operations, 5, 0).views(resized)
    assert views[0] == View()
    assert len(set(views)) == 5
    assert all(abs(view.angle) <= 10 and 0.8 <= view.brightness <= 1.2 for view in views)
    assert Augmentation(operations, 5, 0).views(resized.copy()) == views
    assert Augmentation(operations, 3, 0).views(resized) == views[:3]
    assert Augmentation(operations, 5, 1).views(resized) != views
    other = resized.copy()
    other[0, 0, 0] ^= 1
    assert Augmentation(operations, 5, 0).views(other) != views


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected flip"),
        ("flop", "'flop': expected flip"),
        ("rotate", r"rotate\(…\)"),
        ("rotate(0)", "above 0 and up to 180"),
        ("rotate(200)", "up to 180"),
        ("flip(1)", "without an amount"),
        ("flip,flip", "flip twice"),
        ("rotate(5", "expected flip"),
        ("flip,,rotate(5)", "has '': expected"),
        ("brightness(-0.1)", "expected flip"),
        (3, "expected text"),
    ],
)
def test_operations_are_read_strictly(text, message):
    with pytest.raises(InputError, match=message):
        parse_operations("augment", text)


def test_equal_operations_have_one_spelling():
    assert canonical_operations("tta", " flip, rotate( 10.0 )") == "flip,rotate(10)"
