"""Regions in the pixels of the image, against a pixel by pixel search."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from padim_zoo import InputError, PaDiM
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.regions import RegionRule, find_regions, outlines, to_coco

SIZES = [(40, 40), (37, 61), (90, 50), (12, 9)]
TRANSFORMS = [
    Transform(None, None),
    Transform(24, None),
    Transform((16, 32), None),
    Transform(32, 20),
    Transform((48, 64), (32, 40)),
]


def literal_regions(
    anomaly_map: np.ndarray, threshold: float, area: int, transform: Transform, size: tuple[int, int]
) -> list[set[tuple[int, int]]]:
    """Pixels of the image of each region, by a flood and the center of every pixel."""
    height, width = size
    resized = transform.resized_size(height, width)
    top, left, bottom, right = transform.crop_box(*resized)
    left_over = {(int(y), int(x)) for y, x in zip(*np.nonzero(anomaly_map > threshold), strict=True)}
    found = []
    while left_over:
        waiting, region = [left_over.pop()], set()
        while waiting:
            y, x = waiting.pop()
            region.add((y, x))
            for neighbor in [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if neighbor in left_over:
                    left_over.remove(neighbor)
                    waiting.append(neighbor)
        if len(region) < area:
            continue
        pixels = set()
        for y in range(height):
            for x in range(width):
                on_map = ((2 * y + 1) * resized[0] // (2 * height), (2 * x + 1) * resized[1] // (2 * width))
                if not (top <= on_map[0] < bottom and left <= on_map[1] < right):
                    continue
                if (on_map[0] - top, on_map[1] - left) in region:
                    pixels.add((y, x))
        found.append(pixels)
    return found


def decoded(counts: list[int], size: list[int]) -> np.ndarray:
    """The mask that run lengths stand for, column by column."""
    values = [number % 2 == 1 for number, count in enumerate(counts) for _ in range(count)]
    values += [False] * (size[0] * size[1] - len(values))
    return np.array(values).reshape(size[1], size[0]).T


def inside(rings: list[list[tuple[int, int]]], y: int, x: int) -> bool:
    """Whether a ray from the center of a pixel to the left crosses the rings an odd number of times."""
    crossed = 0
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring, ring[1:] + ring[:1], strict=True):
            assert (x1 == x2) != (y1 == y2)
            crossed += x1 == x2 <= x and min(y1, y2) <= y < max(y1, y2)
    return crossed % 2 == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_regions_are_the_literal_ones(transform, size):
    if transform.crop is not None and size == (12, 9) and not isinstance(transform.resize, tuple):
        size = (14, 18)
    random = np.random.default_rng(0)
    for area in (1, 3):
        anomaly_map = random.random(transform.output_size(*size)).astype(np.float32)
        regions = find_regions(anomaly_map, RegionRule(0.8, area), transform, size)
        expected = literal_regions(anomaly_map, 0.8, area, transform, size)
        assert len(regions) == len(expected)
        assert [one.score for one in regions] == sorted((one.score for one in regions), reverse=True)
        told = []
        for region in regions:
            mask = decoded(region.to_dict()["mask"]["counts"], region.to_dict()["mask"]["size"])
            pixels = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
            ys, xs = [y for y, _ in pixels], [x for _, x in pixels]
            assert region.box == (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
            assert region.area == len(pixels) > 0
            left, top, width, height = region.box
            around = [(y, x) for y in range(top - 1, top + height + 1) for x in range(left - 1, left + width + 1)]
            assert {(y, x) for y, x in around if inside(region.polygons, y, x)} == pixels
            told.append(pixels)
        # A region that no pixel's center falls on has one pixel all the same.
        for pixels in filter(None, expected):
            told.remove(pixels)
        assert len(told) == expected.count(set())
        assert all(len(pixels) == 1 for pixels in told)


def test_runs_go_on_from_column_to_column():
    marked = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [1, 1, 0, 0]], dtype=np.float32)
    region = find_regions(marked, RegionRule(0.5), Transform(None, None), (3, 4))[0]
    assert region.to_dict()["mask"] == {"size": [3, 4], "counts": [2, 6, 4]}
    whole = find_regions(np.ones((2, 2), dtype=np.float32), RegionRule(0.5), Transform(None, None), (2, 2))[0]
    assert whole.run_lengths == [0, 4]


def test_outlines_have_corners_alone_and_go_round_holes():
    assert outlines(np.ones((2, 3), dtype=bool)) == [[(0, 0), (3, 0), (3, 2), (0, 2)]]
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    assert outlines(ring) == [[(0, 0), (3, 0), (3, 3), (0, 3)], [(1, 1), (1, 2), (2, 2), (2, 1)]]
    assert len(outlines(np.eye(2, dtype=bool))) == 2


def test_pixels_that_were_not_scored_are_in_no_region():
    anomaly_map = np.array([[2, np.nan, 2]], dtype=np.float32)
    regions = find_regions(anomaly_map, RegionRule(1), Transform(None, None), (1, 3))
    assert sorted(one.box for one in regions) == [(0, 0, 1, 1), (2, 0, 1, 1)]


def test_the_p_value_is_that_of_the_peak_among_normal_peaks():
    anomaly_map = np.array([[9, 5, 0, 0, 3, 3]], dtype=np.float32)
    peaks, groups = np.array([1, 4, 4, 6, 7], dtype=np.float32), np.array([0, 1, 1, 2, 3])
    rule = RegionRule(2, 2, peaks, groups)
    first, second = find_regions(anomaly_map, rule, Transform(None, None), (1, 6))
    assert (first.score, first.p_value) == (9, pytest.approx((1 + 2) / 5))  # two pixels of it reach 5: 6 and 7 do too
    assert (second.score, second.p_value) == (3, pytest.approx((1 + 3) / 5))


def test_coco_numbers_images_and_annotations():
    region = find_regions(np.ones((2, 3), dtype=np.float32), RegionRule(0.5), Transform(None, None), (2, 3))
    document = to_coco([("a.png", (2, 3), region), ("b.png", (2, 3), []), ("c.png", (2, 3), region)])
    assert [image["id"] for image in document["images"]] == [1, 2, 3]
    assert [(one["id"], one["image_id"], one["bbox"], one["area"]) for one in document["annotations"]] == [
        (1, 1, [0, 0, 3, 2], 6),
        (2, 3, [0, 0, 3, 2], 6),
    ]
    assert document["categories"][0]["id"] == document["annotations"][0]["category_id"]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(80, 160, (30, 40, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector(images) -> PaDiM:
    detector = PaDiM(resize=32, crop=None, n_components=20, precision="float32").fit(images)
    detector.calibrate()
    return detector


def test_a_prediction_holds_regions_of_files_and_arrays(detector, images, tmp_path):
    odd = images[0].copy()
    odd[10:20, 20:34] = (255, 0, 0)
    Image.fromarray(odd).save(tmp_path / "odd.png")
    for source in ([odd, images[1]], [tmp_path / "odd.png", images[1]], iter([Image.fromarray(odd), images[1]])):
        prediction = detector.predict(source)
        assert prediction.anomalous[0]
        first = prediction.regions[0][0]
        assert first.score == prediction.scores[0]
        left, top, width, height = first.box
        assert left < 27 < left + width
        assert top < 15 < top + height
        assert 0 < first.p_value <= 0.05
        assert first.image_size == (40, 48)
    assert detector.predict([odd, images[1]]).images(np.array([1])).sources == [(40, 48)]


def test_what_has_no_regions_says_so(detector, images):
    with pytest.raises(InputError, match="predict images"):
        _ = detector.predict_features(detector.extract(images[:1])).regions
    bare = PaDiM(resize=32, n_components=20, precision="float32").fit(images[:4])
    with pytest.raises(InputError, match="without a threshold"):
        _ = bare.predict(images[:1]).regions
