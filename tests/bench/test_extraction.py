"""Extraction with a cache: the features and scores of one without, only what is missing computed, times kept honest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from padim_zoo import InputError, PaDiM
from padim_zoo.bench import extraction
from padim_zoo.bench.extraction import extract
from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.suite import Suite
from padim_zoo.cache import images as image_cache
from padim_zoo.cache.caches import Caches
from padim_zoo.cache.features import FeatureCache
from padim_zoo.cache.images import DecodeLedger, ImageCache
from padim_zoo.data.image import read_image
from padim_zoo.data.loading import usual_workers
from padim_zoo.data.sample import Sample

OPTIONS: dict[str, Any] = {"weights": "none", "n_components": 20, "resize": 40, "crop": 32}


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        draw(path, number)
    return [Sample(path, 0) for path in paths]


def draw(path: Path, seed: int, size: tuple[int, int] = (48, 48)) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path)


@pytest.fixture
def detector() -> PaDiM:
    return PaDiM("resnet18", **OPTIONS)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the files of every call of ``PaDiM.extract`` and ``extract_normal``."""
    calls: list[list[str]] = []

    def noted(original: Callable[..., Any]) -> Callable[..., Any]:
        def note(self: PaDiM, images: Sequence[Sample]) -> Any:
            calls.append([sample.path.name for sample in images])
            return original(self, images)

        return note

    for name in ("extract", "extract_normal"):
        monkeypatch.setattr(PaDiM, name, noted(getattr(PaDiM, name)))
    return calls


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("backbone", ["resnet18", "builtin", "timm/mobileone_s0"])
def test_read_features_are_those_computed(samples, cache, backbone, precision):
    detector = PaDiM(backbone, precision=precision, **OPTIONS)
    expected = detector.extract(samples)
    first, second = extract(detector, samples, cache), extract(detector, samples, cache)
    assert (first.cached, second.cached) == (0, len(samples))
    for found in (first, second):
        assert found.features.image_size == expected.image_size
        assert [layer.dtype for layer in found.features.maps] == [torch.float32] * 3
        assert all(torch.equal(a, b) for a, b in zip(found.features.maps, expected.maps, strict=True))
    prediction = detector.fit_features(second.features.images(slice(5))).predict_features(second.features)
    literal = detector.fit(samples[:5]).predict(samples)
    np.testing.assert_allclose(prediction.scores, literal.scores, rtol=1e-4)
    np.testing.assert_allclose(prediction.maps, literal.maps, rtol=1e-4)


def test_what_is_missing_is_computed_and_nothing_else(samples, cache, detector, computed):
    extract(detector, samples[:5], cache)
    draw(samples[1].path, seed=100)  # changed
    samples[3].path.touch()  # only its time
    moved = replace(samples[4], path=samples[4].path.with_name("moved.png"))
    samples[4].path.rename(moved.path)
    asked = [samples[5], *samples[:4], moved, samples[0]]
    found = extract(detector, asked, cache)
    assert computed == [["0.png", "1.png", "2.png", "3.png", "4.png"], ["5.png", "1.png"]]
    assert found.cached == 5
    expected = extract(detector, asked)
    assert all(torch.equal(a, b) for a, b in zip(found.features.maps, expected.features.maps, strict=True))


@pytest.mark.parametrize(
    ("backbone", "changes"),
    [
        ("resnet34", {}),
        ("resnet18", {"layers": ("layer1", "layer2")}),
        ("resnet18", {"layers": ("layer3", "layer2", "layer1")}),
        ("resnet18", {"resize": 36}),
        ("resnet18", {"crop": 24}),
        ("resnet18", {"crop": None}),
        ("resnet18", {"resize": (40, 40), "crop": None}),
        ("resnet18", {"precision": "bfloat16"}),
    ],
)
def test_another_detector_has_other_features(samples, cache, detector, backbone, changes):
    extract(detector, samples, cache)
    other = PaDiM(backbone, **{**OPTIONS, **changes})
    found = extract(other, samples, cache)
    assert found.cached == 0
    assert all(torch.equal(a, b) for a, b in zip(found.features.maps, other.extract(samples).maps, strict=True))
    assert extract(PaDiM("resnet18", **OPTIONS), samples, cache).cached == len(samples)


def test_other_weights_code_or_results_miss(samples, cache, detector, monkeypatch):
    extract(detector, samples, cache)
    backbone = detector.build_backbone()
    for name in ("weights_hash", "response"):
        with monkeypatch.context() as patch:
            patch.setattr(backbone, name, "0123")
            assert extract(detector, samples, cache).cached == 0, name
    monkeypatch.setattr(FeatureCache, "version", -1)
    assert extract(detector, samples, cache).cached == 0


@pytest.mark.parametrize("change", [{"seed": 3}, {"n_components": 7}, {"estimator": "diagonal"}, {"sigma": 0.0}])
def test_what_comes_after_the_features_shares_them(samples, cache, detector, change):
    extract(detector, samples, cache)
    assert extract(PaDiM("resnet18", **{**OPTIONS, **change}), samples, cache).cached == len(samples)


def test_damage_is_mended_in_silence(samples, cache, detector, computed, recwarn):
    expected = extract(detector, samples, cache)
    cut, emptied, garbled = sorted(cache.folder.iterdir())[:3]
    cut.write_bytes(cut.read_bytes()[:1000])
    emptied.write_bytes(b"")
    content = bytearray(garbled.read_bytes())
    content[-5] ^= 1
    garbled.write_bytes(bytes(content))
    for cached in (len(samples) - 3, len(samples)):
        found = extract(detector, samples, cache)
        assert found.cached == cached
        assert all(torch.equal(a, b) for a, b in zip(found.features.maps, expected.features.maps, strict=True))
    assert [len(call) for call in computed] == [len(samples), 3]
    assert not recwarn


def test_without_a_place_to_write_everything_is_computed(samples, tmp_path, detector):
    cache = FeatureCache(samples[0].path)  # below a file
    with pytest.warns(UserWarning, match="features and images are not kept"):
        first = extract(detector, samples, cache)
    second = extract(detector, samples, cache)
    assert first.cached == second.cached == 0
    assert all(torch.equal(a, b) for a, b in zip(first.features.maps, second.features.maps, strict=True))


def test_times_are_those_of_the_computation(samples, cache, detector, computed):
    first = extract(detector, samples, cache, batch_size=4)
    assert extract(detector, samples, cache, batch_size=4).seconds_per_image == pytest.approx(first.seconds_per_image)
    for sample in samples[:6]:
        key = cache.key(sample.path, detector.cache_key(fit=False))
        cache.write(key, replace(cache.read(key), seconds=1000.0))
    expected = (6 * 1000 + first.seconds_per_image) / 7
    assert extract(detector, samples, cache, batch_size=4).seconds_per_image == pytest.approx(expected)
    assert len(computed) == 1
    # In batches of another size they would take another time, which nobody has measured yet.
    assert 0 < extract(detector, samples, cache, batch_size=2).seconds_per_image < 1000
    assert computed[1:] == [["0.png", "1.png"]]


def test_sizes_that_differ_are_refused_as_without_a_cache(samples, cache):
    detector = PaDiM("resnet18", **{**OPTIONS, "resize": None, "crop": None})
    draw(samples[2].path, seed=2, size=(48, 80))
    with pytest.raises(InputError) as without:
        extract(detector, samples)
    for asked in (samples[:2], samples[2:3], samples[3:]):
        extract(detector, asked, cache)
    for _ in range(2):
        with pytest.raises(InputError) as found:
            extract(detector, samples, cache)
        assert str(found.value) == str(without.value)
    assert "2.png" in str(without.value)


def test_a_missing_file_is_refused_as_without_a_cache(samples, cache, detector):
    extract(detector, samples, cache)
    samples[2].path.unlink()
    with pytest.raises(InputError, match=r"2\.png"):
        extract(detector, samples, cache)


def test_a_detector_that_names_no_key_keeps_nothing(toys, images, cache):
    toy = toys.Toy(toys.toy_linear())
    samples = [Sample(path, 0) for path in sorted(images.glob("alpha/train/good/*.png"))]
    assert extract(toy, samples, cache).cached == extract(toy, samples, cache).cached == 0
    assert not cache.folder.exists()


# -- images ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of any size are kept."""
    monkeypatch.setattr(image_cache, "LEAST_PIXELS", 0)
    monkeypatch.setattr(image_cache, "LEAST_RATIO", 0)


def test_times_contain_the_decoding_that_a_cache_has_saved(samples, detector, tmp_path, small_ones_too, monkeypatch):
    monkeypatch.setattr(extraction, "usual_workers", lambda ahead=True: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    images = ImageCache(tmp_path)
    detector.cache = Caches(images)
    first = extract(detector, samples)
    assert first.seconds_per_image < 100
    for path in images.folder.iterdir():
        known, pixels = images.read_tensors(path.stem)
        images.write_tensors(path.stem, {**known, "seconds": 1000.0}, pixels)
    second = extract(detector, samples)
    assert second.cached == 0  # features are computed, of images that are read
    assert all(torch.equal(a, b) for a, b in zip(first.features.maps, second.features.maps, strict=True))
    assert second.seconds_per_image == pytest.approx(1000.0 / 2, abs=100)


def test_what_the_cache_takes_is_not_counted():
    account = DecodeLedger()
    account.entries += [(0.0, 3.0), (7.0, 1.0)]
    cores = min(usual_workers(ahead=False), torch.get_num_threads())
    if torch.cuda.is_available():
        assert extraction.seconds_without(10.0, account) == 10.0
    else:
        assert extraction.seconds_without(10.0, account) == pytest.approx(10 + (7 - 4) / cores)


# -- in a benchmark --------------------------------------------------------------------------------------------------


@pytest.fixture
def padim(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))
    return suite.replace(backbones=("builtin",), detectors=("padim",), estimators=("full", "oas"), resize=32, folds=2)


def figures(documents: Sequence[dict[str, Any]]) -> Any:
    board = leaderboard(documents)
    return board.drop(columns=[name for name in board if name.startswith(("ms_", "fit_", "peak_"))])


def test_a_second_benchmark_computes_no_features(padim, run_suite: Callable[..., Any], tmp_path, computed):
    first = run_suite(padim)
    assert [document["cached_images"] for document in first] == [0, 0]
    assert len(computed) == 2  # training and test images
    computed.clear()
    second = run_suite(padim, output=tmp_path / "again")
    assert [document["cached_images"] for document in second] == [second[0]["n_train"] + second[0]["n_test"]] * 2
    assert computed == []
    assert figures(first).equals(figures(second))
    assert all(document["timings"]["fit_seconds"] > 0 for document in second)


@pytest.mark.parametrize("off", ["--no-cache", "limit 0"])
def test_the_cache_can_be_off(padim, run_suite: Callable[..., Any], tmp_path, monkeypatch, off):
    if off == "limit 0":
        monkeypatch.setenv("PADIM_ZOO_CACHE_LIMIT", "0")
    else:
        padim = padim.replace(cache=False)
    for output in ("one", "two"):
        documents = run_suite(padim, output=tmp_path / output)
        assert [document["cached_images"] for document in documents] == [0, 0]
    assert not (tmp_path / "cache" / "features").exists()


def test_another_backbone_decodes_nothing(padim, run_suite: Callable[..., Any], tmp_path, small_ones_too, monkeypatch):
    names: list[str] = []

    def note(path: Path, bit_depth: int | None) -> np.ndarray:
        names.append(path.name)
        return read_image(path, bit_depth)

    monkeypatch.setattr(image_cache, "read_image", note)
    other = padim.replace(backbones=("resnet18",), weights=("none",))
    without = run_suite(other.replace(cache=False), output=tmp_path / "a")
    assert names == []
    first = run_suite(padim, output=tmp_path / "b")
    assert len(names) == first[0]["n_train"] + first[0]["n_test"]
    names.clear()
    second = run_suite(other, output=tmp_path / "c")
    assert names == []
    assert [document["cached_images"] for document in second] == [0, 0]
    assert figures(second).equals(figures(without))
