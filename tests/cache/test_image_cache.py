"""Resized images kept on disk: exactly those of the files, where that pays, and the same views of them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_zoo import InputError
from padim_zoo.cache import images as image_cache
from padim_zoo.cache.features import FeatureCache
from padim_zoo.cache.fingerprints import FingerprintCache
from padim_zoo.cache.images import ImageCache
from padim_zoo.data.augmentation import Augmentation, View, ViewSet, parse_operations
from padim_zoo.data.image import read_image
from padim_zoo.data.image_hashes import fingerprint_of_file
from padim_zoo.data.loading import view_batches
from padim_zoo.data.pixel_limit import pixels_limited
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.transform import Transform

LARGE = (520, 560)


def draw(path: Path, seed: int, size: tuple[int, int] = LARGE, mode: str = "RGB") -> Path:
    """A smooth random image."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize(size[::-1]).convert(mode).save(path, compress_level=1)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [draw(tmp_path / f"{seed}.png", seed) for seed in range(5)]


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache")


def entries(cache: ImageCache) -> int:
    return len(list(cache.folder.glob("*.safetensors")))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that the cache has decoded."""
    names: list[str] = []

    def note(path: Path, bit_depth: int | None) -> np.ndarray:
        names.append(path.name)
        return read_image(path, bit_depth)

    monkeypatch.setattr(image_cache, "read_image", note)
    return names


@pytest.mark.parametrize("resize", [40, (30, 50)])
@pytest.mark.parametrize(("suffix", "mode"), [(".png", "RGB"), (".png", "L"), (".jpg", "RGB"), (".tif", "CMYK")])
def test_pixels_are_those_of_the_file(tmp_path, cache, decoded, resize, suffix, mode):
    path, transform = draw(tmp_path / f"image{suffix}", 1, mode=mode), Transform(resize, 24)
    expected = transform.resized(read_image(path))
    for _ in range(2):
        pixels, size = cache.resized(path, transform)
        np.testing.assert_array_equal(pixels, expected)
        assert (pixels.dtype, size) == (np.uint8, LARGE)
    assert decoded == [path.name]


def test_a_file_that_is_replaced_while_it_is_decoded_is_not_kept(
    tmp_path: Path, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy, transform = draw(tmp_path / "a.png", 1), draw(tmp_path / "b.png", 1), Transform(40, None)

    def replace_and_read(path: Path, bit_depth: int | None) -> np.ndarray:
        if path.name == "a.png":
            draw(tmp_path / "other.png", 2).replace(path)
        return read_image(path, bit_depth)

    monkeypatch.setattr(image_cache, "read_image", replace_and_read)
    cache.resized(path, transform)
    # Of the same content as the other was.
    np.testing.assert_array_equal(cache.resized(copy, transform)[0], transform.resized(read_image(copy)))


def test_images_turned_by_their_exif_data(tmp_path, cache):
    path, transform = draw(tmp_path / "turned.jpg", 1), Transform((40, 60), None)
    image = Image.open(path)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    for _ in range(2):
        pixels, size = cache.resized(path, transform)
        np.testing.assert_array_equal(pixels, transform.image(read_image(path)))
        assert size == LARGE[::-1]


@pytest.mark.parametrize(
    ("size", "resize", "kept"),
    [
        (LARGE, 256, True),
        ((512, 512), 300, True),
        ((511, 512), 64, False),  # decoded in no time
        (LARGE, 520, False),  # as large as the file
        (LARGE, None, False),
    ],
)
def test_only_what_pays_is_kept(tmp_path, cache, decoded, size, resize, kept):
    path = draw(tmp_path / "image.png", 1, size)
    for _ in range(2):
        cache.resized(path, Transform(resize, None))
    assert entries(cache) == kept
    assert len(decoded) == (1 if kept else 2)


def test_a_changed_file_resize_or_library_is_another_image(paths, cache, decoded, monkeypatch):
    transform = Transform(40, 32)
    cache.resized(paths[0], transform)
    cache.resized(paths[0], Transform(40, 16))  # another crop of the same
    assert len(decoded) == 1
    cache.resized(paths[0], Transform(41, 32))
    before = paths[0].stat()
    draw(paths[0], 100)
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))  # as tools restore it
    np.testing.assert_array_equal(cache.resized(paths[0], transform)[0], transform.resized(read_image(paths[0])))
    monkeypatch.setattr(image_cache, "decoder", lambda: "another")
    cache.resized(paths[0], transform)
    assert (len(decoded), entries(cache)) == (4, 4)


VIEW_SETS = [
    ViewSet(),
    ViewSet(Augmentation(parse_operations("augment", "flip,rotate(10),brightness(0.1)"), 3, 0)),
    ViewSet(others=(View(flip=True), View(angle=5.0))),
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("view_set", VIEW_SETS)
def test_all_views_and_crops_come_of_one_entry(paths, cache, decoded, view_set, masked):
    region = None
    if masked:
        mask = np.zeros(LARGE, dtype=bool)
        mask[100:400, 50:480] = True
        region = RegionOfInterest(mask)
    for crop in (32, None):
        transform = Transform(40, crop)
        literal = list(view_batches(paths, transform, 2, view_set, roi=region))
        for _ in range(2):
            found = list(view_batches(paths, transform, 2, view_set, roi=region, cache=cache))
            assert len(found) == len(literal) == 3
            for (pixels, roi_masks), (expected, expected_regions) in zip(found, literal, strict=True):
                np.testing.assert_array_equal(pixels, expected)
                assert (roi_masks is None) == (expected_regions is None)
                if roi_masks is not None:
                    np.testing.assert_array_equal(roi_masks, expected_regions)
    assert sorted(decoded) == [path.name for path in paths]


def test_bad_files_and_crops_are_told_as_without_a_cache(paths, cache, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    cut = tmp_path / "cut.png"
    cut.write_bytes(paths[0].read_bytes()[:2000])
    for bad, transform in (
        (tmp_path / "text.png", Transform(40, 32)),
        (cut, Transform(40, 32)),
        (tmp_path / "absent.png", Transform(40, 32)),
        (paths[0], Transform(40, 48)),
    ):
        with pytest.raises(InputError) as without:
            list(view_batches([paths[1], bad], transform, 2, ViewSet()))
        for _ in range(2):
            with pytest.raises(InputError) as found:
                list(view_batches([paths[1], bad], transform, 2, ViewSet(), cache=cache))
            assert str(found.value) == str(without.value)


def test_the_account_tells_what_decoding_took(paths, cache):
    transform = Transform(40, 32)
    with cache.accounting() as first:
        for path in paths:
            cache.resized(path, transform)
    assert first.saved == 0 < first.spent
    with cache.accounting() as second:
        for path in paths:
            cache.resized(path, transform)
    kept = [cache.read_tensors(file.stem) for file in cache.folder.glob("*.safetensors")]
    assert second.saved == pytest.approx(sum(known["seconds"] for known, _ in kept))
    assert second.saved > 0 < second.spent
    assert len(second.entries) == len(paths)


def test_a_cache_that_only_reads(paths, cache):
    transform = Transform(40, 32)
    reader = ImageCache(cache.root, writes=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader.resized(paths[0], transform)
    assert not cache.root.exists()
    cache.resized(paths[0], transform)
    with reader.accounting() as account:
        reader.resized(paths[0], transform)
    assert account.saved > 0


def test_one_warning_for_images_and_features(paths, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="features and images are not kept: .*expected a folder"):
        ImageCache(tmp_path / "file").resized(paths[0], Transform(40, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageCache(tmp_path / "file").resized(paths[1], Transform(40, 32))
        FeatureCache(tmp_path / "file").write_tensors("0" * 64, {}, [])


def test_both_kinds_share_the_limit(paths, cache):
    other = FeatureCache(cache.root)
    for path in paths:
        cache.resized(path, Transform(40, 32))
    for name in sorted(cache.folder.iterdir())[:2]:
        os.utime(name, (0, 0))
    each = next(cache.folder.iterdir()).stat().st_size
    other.limit = 3 * each
    other.trim()
    assert entries(cache) == 3


def _fill(root: Path, paths: list[Path]) -> None:
    """Write images until the process is killed."""
    cache = ImageCache(root)
    for crop in itertools.chain([None], itertools.count(1)):
        for resize in range(20, 250):
            for path in paths:
                cache.resized(path, Transform(resize, crop))


def test_a_writer_that_is_killed_leaves_nothing_wrong(paths, cache):
    """Another process fills the folder while this one uses it, and is killed in the middle."""
    other = multiprocessing.get_context("spawn").Process(target=_fill, args=(cache.root, paths))
    other.start()
    deadline = time.monotonic() + 600
    while (not cache.folder.exists() or entries(cache) < 40) and time.monotonic() < deadline:
        time.sleep(0.02)
    for resize in range(20, 40):
        transform = Transform(resize, None)
        np.testing.assert_array_equal(cache.resized(paths[0], transform)[0], transform.image(read_image(paths[0])))
    assert other.is_alive()
    other.kill()
    other.join()
    for name in [file.stem for file in cache.folder.glob("*.safetensors")]:
        assert cache.read_tensors(name) is not None
    for file in cache.folder.glob(".*.tmp"):
        os.utime(file, (0, 0))
    cache.trim()
    assert not list(cache.folder.glob(".*.tmp"))
    for path in paths:
        np.testing.assert_array_equal(cache.resized(path, transform)[0], transform.image(read_image(path)))


def test_what_is_kept_of_an_image_beyond_the_limit_of_pixels_is_not_had(tmp_path: Path, cache: ImageCache) -> None:
    path, transform = draw(tmp_path / "large.png", 0), Transform(64, None)
    features, fingerprints = FeatureCache(tmp_path / "cache"), FingerprintCache(tmp_path / "cache")
    lookups = [
        lambda: cache.resized(path, transform),
        lambda: features.key(path, "resnet18"),
        lambda: fingerprint_of_file(path, 8, fingerprints),
    ]
    for look_up in lookups:
        look_up()
    with pixels_limited(LARGE[0] * LARGE[1]):
        for look_up in lookups:
            look_up()
    with pixels_limited(LARGE[0] * LARGE[1] - 1):
        for look_up in lookups:
            with pytest.raises(InputError, match="pixels: at most"):
                look_up()
