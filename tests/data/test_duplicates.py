"""Copies are found, equal and near ones; different parts in one fixture are not."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from padim_zoo.core.errors import InputError
from padim_zoo.data import duplicates, validate
from padim_zoo.data.duplicates import (
    Duplicates,
    count_compared,
    find_duplicates,
    groups_by_pattern,
    refuse_equal_scores,
    refuse_two_labels,
)
from padim_zoo.data.groups import connected_groups, joined_groups
from padim_zoo.data.image_hashes import Fingerprint, pixel_hash
from padim_zoo.data.pixel_limit import pixels_limited
from padim_zoo.data.sample import Sample
from padim_zoo.data.validate import check

SIZE = 320


def part(seed: int) -> Image.Image:
    """A part in a fixture: the same frame, screws and shading in each, surface marks of its own."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    picture = 90 + 60 * x + 20 * np.sin(9 * y)
    picture[(np.abs(x - 0.5) > 0.42) | (np.abs(y - 0.5) > 0.42)] = 40
    for center in ((0.2, 0.2), (0.8, 0.2), (0.5, 0.8)):
        picture[(x - center[0]) ** 2 + (y - center[1]) ** 2 < 0.004] = 210
    marks = Image.fromarray(random.normal(128, 90, (SIZE, SIZE)).clip(0, 255).astype(np.uint8))
    blurred = np.asarray(marks.filter(ImageFilter.GaussianBlur(2)), dtype=np.float64) - 128
    return Image.fromarray((picture + 1.5 * blurred).clip(0, 255).astype(np.uint8)).convert("RGB")


def as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=60)
    return Image.open(file)


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(9).normal(0, 4, (SIZE, SIZE, 3))
    return Image.fromarray((1.05 * np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": as_jpeg,
    "half": lambda image: image.resize((SIZE // 2, SIZE // 2), Image.Resampling.LANCZOS),
    "noise": noisy,
    "moved": lambda image: image.transform((SIZE, SIZE), Image.Transform.AFFINE, (1, 0, 1, 0, 1, -1), 2),
}


def frames(image: Image.Image, count: int, noise: float = 3) -> list[Image.Image]:
    """Frames of a burst: moved by up to a pixel, up to 5 % brighter or darker, with noise of their own."""
    random = np.random.default_rng(count)
    burst = []
    for _ in range(count):
        moved = np.roll(np.asarray(image), random.integers(-1, 2, 2), (0, 1))
        pixels = random.uniform(0.95, 1.05) * moved + random.normal(0, noise, moved.shape)
        burst.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return burst


def save(folder: Path, images: list[Image.Image]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return paths


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 2), (200, 16)])
def test_no_more_threads_read_than_are_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int, threads: int
) -> None:
    started: list[int] = []

    def start(count: int) -> ThreadPoolExecutor:
        started.append(count)
        return ThreadPoolExecutor(count)

    monkeypatch.setattr(duplicates, "usable_processors", lambda: processors)
    monkeypatch.setattr(duplicates, "ThreadPoolExecutor", start)
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    find_duplicates([tmp_path / "image.png"])
    assert started == [threads]


def test_equal_pixels_in_other_files(tmp_path: Path) -> None:
    paths = save(tmp_path, [part(0), part(1)])
    part(0).save(tmp_path / "copy.bmp")
    found = find_duplicates([*paths, tmp_path / "copy.bmp"])
    assert [tuple(pair) for pair in found.pairs] == [(0, 2, "exact")]
    assert found.groups.tolist() == [0, 1, 0]
    assert found.n_groups == 2
    assert found.notes(2) == ["1 exact copy of images to fit among the test images"]
    assert found.notes(3) == ["1 exact copy among the images to fit"]
    pixels = np.asarray(part(0))
    assert pixel_hash(pixels) == pixel_hash(pixels[:, ::-1][:, ::-1]) != pixel_hash(pixels.reshape(SIZE // 2, -1, 3))


@pytest.mark.parametrize("name", COPIES)
def test_near_copies(tmp_path: Path, name: str) -> None:
    parts = [part(seed) for seed in range(8)]
    found = find_duplicates(save(tmp_path, [*parts, COPIES[name](parts[3])]))
    assert [tuple(pair) for pair in found.pairs] == [(3, 8, "near")]
    assert found.groups.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 3]


def test_the_limit_of_pixels_decides_which_copies_are_seen(tmp_path: Path) -> None:
    paths = save(tmp_path, [part(0), part(0)])
    with pixels_limited(1):
        assert find_duplicates(paths).n_groups == 2
    assert find_duplicates(paths).n_groups == 1


def test_different_parts_in_one_fixture_are_no_copies(tmp_path: Path) -> None:
    assert find_duplicates(save(tmp_path, [part(seed) for seed in range(12)])).pairs == ()


BURSTS = [[11, *[1] * 9], [20, 10], [15, 3, 3, 3], [12]]


@pytest.mark.parametrize("counts", BURSTS, ids=str)
def test_bursts_are_most_of_the_images(tmp_path: Path, counts: list[int]) -> None:
    images = [frame for seed, count in enumerate(counts) for frame in frames(part(seed), count)]
    copies = find_duplicates(save(tmp_path, images))
    assert copies.groups.tolist() == np.repeat(np.arange(len(counts)), counts).tolist()
    assert copies.doubts() == []


@pytest.mark.parametrize("counts", BURSTS, ids=str)
@pytest.mark.parametrize("name", ["transistor", "hazelnut"])
def test_bursts_of_real_parts(shared: Path, tmp_path: Path, name: str, counts: list[int]) -> None:
    parts = real_parts(shared, name, len(counts))
    images = [frame for image, count in zip(parts, counts, strict=True) for frame in frames(image, count, noise=2)]
    copies = find_duplicates(save(tmp_path, images))
    assert copies.groups.tolist() == np.repeat(np.arange(len(counts)), counts).tolist()
    assert copies.doubts() == []


def test_frames_that_may_be_of_several_parts_are_told(shared: Path, tmp_path: Path) -> None:
    """Noise hides the fine marks of a hazelnut, and no other part tells how much parts differ."""
    (part,) = real_parts(shared, "hazelnut", 1)
    copies = find_duplicates(save(tmp_path, frames(part, 12, noise=3)))
    assert copies.n_groups == 12
    assert copies.doubts()[0].startswith("12 images may be frames of one thing, or parts that look alike")


def real_parts(shared: Path, name: str, count: int) -> list[Image.Image]:
    folder = shared / "data" / "mvtec_reduced" / f"{name}_reduced"
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("train/good/*.png"))[:count]]


def test_of_too_many_images_near_copies_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_IMAGES", 3)
    paths = save(tmp_path, [part(0), part(1), as_jpeg(part(0)), part(0), as_jpeg(part(1))])
    pairs = {n: [tuple(pair) for pair in find_duplicates(paths, n_train=n).pairs] for n in (3, 4, None)}
    assert pairs == {3: [(0, 3, "exact"), (0, 2, "near")], 4: [(0, 3, "exact")], None: [(0, 3, "exact")]}
    assert find_duplicates(paths).doubts() == [
        "near copies are not looked for among more than 3 images: name them with --groups"
    ]
    assert find_duplicates(paths, n_train=3).notes(3)[-1] == (
        "near copies are not looked for among the test images: name them with --groups"
    )
    assert [count_compared(n, n_train) for n, n_train in ((3, 2), (4, 3), (9, 4), (9, None))] == [3, 3, 0, 0]


def test_thumbnails_are_held_only_where_they_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_IMAGES", 3)
    held: list[int] = []
    search = duplicates.duplicates_of

    def watched(fingerprints: Sequence[Fingerprint | None], n_compared: int) -> Duplicates:
        held.append(sum(one.thumbnail.nbytes for one in fingerprints if one is not None))
        return search(fingerprints, n_compared)

    monkeypatch.setattr(duplicates, "duplicates_of", watched)
    monkeypatch.setattr(validate, "duplicates_of", watched)
    paths = save(tmp_path / "part/train/good", [part(seed) for seed in range(3)])
    paths += save(tmp_path / "part/test/good", [part(3)])
    find_duplicates(paths)
    find_duplicates(paths, n_train=3)
    (report,) = check(tmp_path / "part")
    assert held == [0, 3 << 16, 3 << 16]
    told = "near copies are not looked for among the test images: name them with --groups"
    assert told in [problem.message for problem in report.problems]


@pytest.mark.parametrize("name", ["transistor", "hazelnut"])
def test_real_parts_are_no_copies(shared: Path, name: str) -> None:
    images = sorted((shared / "data" / "mvtec_reduced" / f"{name}_reduced").glob("t*/*/*.png"))
    assert len(images) == 60
    assert find_duplicates(images).pairs == ()


def test_one_outline_on_black_makes_no_copies(tmp_path: Path) -> None:
    """Cut-out parts share a strong outline; what tells them apart is faint."""
    rows, columns = np.indices((64, 64))
    disc = (rows - 32) ** 2 + (columns - 32) ** 2 < 24**2
    surfaces = [np.random.default_rng(seed).normal(150, 6, (64, 64)).clip(0, 255) for seed in range(6)]
    shifts = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 0), (1, 0)]
    pixels = [np.roll(disc, shift, (0, 1)) * surface for shift, surface in zip(shifts, surfaces, strict=True)]
    paths = save(tmp_path, [Image.fromarray(part.astype(np.uint8)) for part in pixels])
    assert find_duplicates(paths).pairs == ()


def test_dark_samples_of_ten_bits_in_sixteen_are_told_apart(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(3):  # all samples but the first are one of 255 where 65535 is white
        pixels = random.integers(280, 370, (48, 48), dtype=np.uint16)
        pixels[0, 0] = 1023
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    assert find_duplicates(sorted(tmp_path.iterdir())).pairs == ()


def test_unreadable_images_are_copies_of_none(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_text("x")
    (tmp_path / "1.png").write_text("x")
    assert find_duplicates([tmp_path / "0.png", tmp_path / "1.png", tmp_path / "2.png"]).groups.tolist() == [0, 1, 2]


def test_groups_by_a_pattern() -> None:
    paths = [Path(f"day{day}/part{number}_{shot}.png") for day in (1, 2) for number in (1, 2) for shot in "ab"]
    assert groups_by_pattern(paths, r"part\d").tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert groups_by_pattern(paths, r"(day\d)/").tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert groups_by_pattern(paths, r".*part\d").tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(InputError, match=r"groups 'shot' matches nothing in day1/part1_a\.png"):
        groups_by_pattern(paths, "shot")


def test_groups_join() -> None:
    assert connected_groups(5, [(3, 1), (4, 3)]).tolist() == [0, 1, 2, 1, 1]
    assert joined_groups(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])).tolist() == [0, 0, 0, 1]


def test_one_picture_with_two_labels_is_refused(tmp_path: Path) -> None:
    paths = save(tmp_path, [part(0), part(1), part(0)])
    samples = [
        Sample(path, label, kind) for path, label, kind in zip(paths, (0, 0, 1), ("good", "good", "dent"), strict=True)
    ]
    message = r"00\.png \(good\) and .*02\.png \(dent\) are the same picture"
    with pytest.raises(InputError, match=message):
        refuse_two_labels(samples, find_duplicates(samples))
    with pytest.raises(InputError, match=message):
        refuse_equal_scores(samples, np.array([3.0, 1.0, 3.0]))
    refuse_equal_scores(samples, np.array([3.0, 1.0, 4.0]))  # of other scores, no file is read
    refuse_equal_scores(samples[:2], np.array([3.0, 3.0]))


def test_the_check_tells_copies_by_where_they_lie(tmp_path: Path) -> None:
    parts = [part(seed) for seed in range(16)]
    save(tmp_path / "part/train/good", [*parts[:10], parts[0], as_jpeg(parts[1])])
    save(tmp_path / "part/test/good", [parts[10], parts[11], parts[10], as_jpeg(parts[2]), parts[3]])
    save(tmp_path / "part/test/dent", [parts[12], parts[11]])
    (report,) = check(tmp_path / "part")
    assert {
        f"{problem.severity}: {problem.message}" for problem in report.problems if "95 %" not in problem.message
    } == {
        "error: 1 image is labeled normal and anomalous, pixel for pixel the same",
        "error: 1 test image is in the training set too, pixel for pixel",
        "warning: 1 test image is a near copy of training images",
        "warning: 1 training image is a copy of others, and count once",
        "warning: 1 training image is a near copy of others, and count once",
        "warning: 1 test image is a copy of others, and count once",
        "warning: no anomalous image has a mask: only image-level figures can be computed",
    }
