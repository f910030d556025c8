"""Detectors that read features from the disk: the same scores, in bounded memory, nothing computed twice."""

from __future__ import annotations

import copy
import functools
import json
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from padim_zoo import SPADE, STFPM, Ensemble, InputError, MahalanobisAD, PaDiM, PatchCore, load, registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.bench.extraction import extract
from padim_zoo.cache import images as image_cache
from padim_zoo.cache.caches import Caches
from padim_zoo.cache.features import FeatureCache
from padim_zoo.cache.images import ImageCache
from padim_zoo.cli.main import main
from padim_zoo.data.sample import Sample

SMALL: dict[str, Any] = {"resize": 40, "crop": 32, "sigma": 1.0}


@functools.cache
def network() -> Backbone:
    """The backbone of all tests here; it takes its time to make."""
    made: Backbone = registry.backbones.create("resnet18", weights="none")
    made.response  # noqa: B018  passes an image through it, once
    return made


def draw(path: Path, seed: int, size: tuple[int, int] = (48, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    return [draw(folder / f"{number}.png", number) for number in range(14)]


@pytest.fixture
def caches(tmp_path: Path) -> Caches:
    return Caches(ImageCache(tmp_path / "kept"), FeatureCache(tmp_path / "kept"))


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images passed through a backbone, call by call."""
    counts: list[int] = []
    original = Backbone._maps

    def note(self: Backbone, images: torch.Tensor) -> Any:
        counts.append(len(images))
        return original(self, images)

    monkeypatch.setattr(Backbone, "_maps", note)
    return counts


def entries(caches: Caches) -> int:
    assert caches.features is not None
    return len(list(caches.features.folder.glob("*.safetensors")))


def assert_same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
    if expected.maps is not None:
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PaDiM, {"n_components": 20, **SMALL}),
        (PaDiM, {"n_components": 20, **SMALL, "precision": "bfloat16"}),
        (PaDiM, {"n_components": 20, **SMALL, "augment": "flip,rotate(10)", "passes": 2, "tta": "flip"}),
        (PatchCore, SMALL),
        (SPADE, SMALL),
        (MahalanobisAD, {"resize": 40, "crop": 32}),
    ],
)
def test_fits_and_scores_are_those_without_a_cache(paths, caches, passed, kind, options):
    literal = kind(network(), **options).fit(paths[:10])
    expected = literal.predict(paths[10:])
    for computed in (True, False):
        passed.clear()
        detector = kind(network(), **options, cache=caches, batch_size=3).fit(paths[:10])
        assert_same(detector.predict(paths[10:]), expected)
        assert (sum(passed) >= 14) == computed
    assert entries(caches) == 14


@pytest.mark.parametrize("happens", ["replaced", "removed"])
def test_a_file_that_changes_while_features_are_computed_is_not_kept(
    tmp_path: Path, caches: Caches, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    """As by a camera that writes one name again, or a program that moves away what was scored."""
    images = [draw(tmp_path / f"{number}.png", number) for number in range(4)]
    detector = PaDiM(network(), n_components=20, **SMALL).fit(images)
    expected = detector.predict(images).scores
    replacement, original = draw(tmp_path / "other" / "0.png", 9), Backbone._maps

    def change(self: Backbone, batch: torch.Tensor) -> Any:
        if replacement.exists():
            replacement.replace(images[0])
            if happens == "removed":
                images[0].unlink()
        return original(self, batch)

    monkeypatch.setattr(Backbone, "_maps", change)
    np.testing.assert_allclose(detector.set_params(cache=caches).predict(images).scores, expected, rtol=1e-4)
    assert entries(caches) == 3
    if happens == "replaced":
        kept = detector.predict(images).scores
        np.testing.assert_allclose(kept, detector.set_params(cache=False).predict(images).scores, rtol=1e-4)
        assert kept[0] != pytest.approx(expected[0], rel=1e-2)


def test_16_bits_hold_all_that_a_network_in_bfloat16_gives(paths, caches):
    for kind in (PaDiM, PatchCore, SPADE):
        kind(network(), **SMALL, precision="bfloat16", cache=caches).fit(paths[:4])
    kept = [caches.features.read(file.stem) for file in caches.features.folder.iterdir()]
    assert {layer.dtype for entry in kept for layer in entry.maps} == {torch.bfloat16}


def test_only_what_is_missing_passes_and_the_order_stays(paths, caches, passed):
    detector = PaDiM(network(), **SMALL, cache=caches, batch_size=4)
    detector.extract(paths[3:9])
    passed.clear()
    in_memory = np.asarray(Image.open(paths[0]))
    asked = [paths[8], paths[0], paths[1], paths[5], paths[4], in_memory, paths[6], paths[2], paths[3]]
    found = detector.extract(asked)
    assert sum(passed) == 4
    assert entries(caches) == 6 + 3  # an image in memory is not kept
    expected = PaDiM(network(), **SMALL).extract(asked)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found.maps, expected.maps, strict=True))


def test_what_a_fit_has_kept_a_benchmark_reads_and_the_other_way_round(paths, caches):
    samples = [Sample(path, 0) for path in paths]
    detector = PaDiM(network(), **SMALL, cache=caches).fit(samples[:6])
    plain = PaDiM(network(), **SMALL)
    found = extract(plain, samples, caches.features)
    assert found.cached == 6
    assert found.seconds_per_image > 0  # nobody has timed those six, so that it is the time of the others
    assert extract(plain, samples[:6], caches.features).seconds_per_image > 0  # a batch is timed
    before = entries(caches)
    detector.predict(samples)
    assert entries(caches) == before == len(samples)


def test_a_saved_detector_reads_what_its_fit_has_kept(paths, caches, passed, tmp_path):
    detector = PaDiM(network(), **SMALL, cache=caches).fit(paths[:8])
    expected = detector.predict(paths[8:])
    detector.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.cache is False
    loaded.cache = Caches(None, FeatureCache(caches.features.root, writes=False))
    loaded.build_backbone().response  # noqa: B018
    passed.clear()
    assert_same(loaded.predict(paths[8:]), expected)
    assert passed == []
    extra = draw(tmp_path / "new.png", 100)
    loaded.predict([extra])
    assert passed == [1]
    assert entries(caches) == len(paths)  # this one only reads


def test_regions_are_not_kept_and_count_all_the_same(paths, caches):
    mask = np.zeros((48, 48), dtype=bool)
    mask[10:40, 10:40] = True
    expected = PaDiM(network(), **SMALL, roi=mask).fit(paths[:8]).predict(paths[8:])
    assert_same(PaDiM(network(), **SMALL, roi=mask, cache=caches).fit(paths[:8]).predict(paths[8:]), expected)
    assert not caches.features.folder.exists()
    fitted = PaDiM(network(), **SMALL, cache=caches).fit(paths[:8])
    fitted.predict(paths[8:])
    without = PaDiM(network(), **SMALL).fit(paths[:8])
    assert_same(fitted.predict(paths[8:], roi=mask), without.predict(paths[8:], roi=mask))


def test_more_images_than_there_is_room_for(paths, caches, passed):
    """The first ones stay, instead of each pushing out the one that is wanted next."""
    detector = PaDiM(network(), **SMALL, cache=caches, batch_size=2)
    detector.extract(paths[:1])
    each = sum(file.stat().st_size for file in caches.features.folder.iterdir())
    caches.features.limit = 10 * each
    for _ in range(3):
        passed.clear()
        found = PaDiM(network(), **SMALL, cache=caches, batch_size=2, memory=10**8).fit(paths)
        assert entries(caches) in (5, 6)
    assert 8 <= sum(passed) <= 10
    assert_same(found.predict(paths[:2]), PaDiM(network(), **SMALL).fit(paths).predict(paths[:2]))


def test_batches_are_read_as_they_are_wanted(paths, caches, monkeypatch):
    """However many images there are, no more than a few batches of features are in memory."""
    detector = PaDiM(network(), **SMALL, cache=caches, batch_size=2)
    detector.extract(paths)
    read: list[str] = []
    original = FeatureCache.read

    def note(self: FeatureCache, key: str) -> Any:
        read.append(key)
        return original(self, key)

    monkeypatch.setattr(FeatureCache, "read", note)
    parts: Iterator[Any] = detector.extractor.features(paths)
    assert len(next(parts)) == 2
    assert len(read) <= 2 + 2 * 2 + 1
    assert sum(len(part) for part in parts) == 12
    assert len(read) == 14


def test_sizes_that_differ_and_bad_files_are_told_as_without_a_cache(paths, caches, tmp_path):
    options = {**SMALL, "resize": None, "crop": None}
    wide = draw(tmp_path / "wide.png", 1, (48, 80))
    (tmp_path / "bad.png").write_text("text")
    PaDiM(network(), **options, cache=caches).extract(paths[:3])
    PaDiM(network(), **options, cache=caches).extract([wide])
    for asked in ([paths[0], wide], [wide, paths[0]], [paths[5], wide], [paths[0], tmp_path / "bad.png"]):
        with pytest.raises(InputError) as without:
            PaDiM(network(), **options).fit(asked)
        with pytest.raises(InputError) as found:
            PaDiM(network(), **options, cache=caches).fit(asked)
        assert str(found.value) == str(without.value)


def test_one_decoding_for_all_members(paths, caches, monkeypatch):
    monkeypatch.setattr(image_cache, "LEAST_PIXELS", 0)
    monkeypatch.setattr(image_cache, "LEAST_RATIO", 0)
    ensemble = Ensemble([PaDiM(network(), **SMALL), PaDiM("builtin", **SMALL)])
    ensemble.cache = caches
    with caches.images.accounting() as account:
        ensemble.fit(paths[:10]).predict(paths[10:])
    assert len(account.entries) == 2 * 14
    assert sum(saved > 0 for saved, _ in account.entries) == 14


def test_the_parameter(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "own"))
    PaDiM(network(), **SMALL).fit(paths[:3])
    assert not (tmp_path / "own").exists()  # nothing is written unless it is asked for
    detector = PaDiM(network(), **SMALL, cache=True).fit(paths[:3])
    assert len(list((tmp_path / "own" / "features").iterdir())) == 3
    model = detector.model_
    assert detector.set_params(cache=False).model_ is model
    monkeypatch.setenv("PADIM_ZOO_CACHE_LIMIT", "0")
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "none"))
    PaDiM(network(), **SMALL, cache=True).fit(paths[:3])
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="cache is 'folder': expected True or False"):
        PaDiM(network(), **SMALL, cache="folder").fit(paths[:3])
    given = PaDiM(network(), **SMALL, cache=Caches.usual())
    for other in (copy.deepcopy(given), pickle.loads(pickle.dumps(given))):
        other.fit(paths[:3])


def test_a_student_uses_resized_images(paths, caches, monkeypatch):
    monkeypatch.setattr(image_cache, "LEAST_PIXELS", 0)
    monkeypatch.setattr(image_cache, "LEAST_RATIO", 0)
    for _ in range(2):
        with caches.images.accounting() as account:
            STFPM(network(), resize=40, crop=32, epochs=1, cache=caches).fit(paths[:6])
    assert sum(saved > 0 for saved, _ in account.entries) == 6


def _fit(root: Path, paths: list[Path], first: int, report: Callable[[list[float]], None]) -> None:
    """Fit and score with a cache that is too small, beginning with another image than others do."""
    caches = Caches(ImageCache(root), FeatureCache(root, limit=400_000))
    for _ in range(3):
        detector = PaDiM(network(), **SMALL, cache=caches).fit(paths[first:] + paths[:first])
        report(detector.predict(paths).scores.tolist())


def test_two_fits_at_once_in_a_folder_that_is_too_small(paths, tmp_path):
    """Two processes read, write and remove the same entries."""
    expected = PaDiM(network(), **SMALL).fit(paths).predict(paths)
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    other = context.Process(target=_fit, args=(tmp_path / "kept", paths, 3, reports.put))
    other.start()
    while not (tmp_path / "kept").exists() and other.is_alive():
        time.sleep(0.02)
    here: list[list[float]] = []
    _fit(tmp_path / "kept", paths, 9, here.append)
    for scores in (*here, *(reports.get() for _ in here)):
        np.testing.assert_allclose(scores, expected.scores, rtol=1e-3)
    other.join()


# -- at the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of a few images."""
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))
    for number in range(8):
        draw(tmp_path / "parts" / "train" / "good" / f"{number}.png", number)
    for number in range(2):
        draw(tmp_path / "parts" / "test" / "good" / f"{number}.png", 20 + number)
        draw(tmp_path / "parts" / "test" / "bad" / f"{number}.png", 30 + number)
    return tmp_path / "parts"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def kept(folder: Path) -> int:
    return len(list((folder.parent / "cache" / "features").glob("*.safetensors")))


def test_fit_and_evaluate_keep_features_and_predict_reads_them(parts, passed, tmp_path):
    sizes = ("--resize", 40, "--crop", 32)
    for estimator in ("full", "oas"):
        model = tmp_path / f"{estimator}.safetensors"
        run("fit", "--data-root", parts, "--estimator", estimator, "-o", model, *sizes)
        evaluated = json.loads(run("evaluate", model, "--data-root", parts, "--json").stdout)
        without = json.loads(run("evaluate", model, "--data-root", parts, "--json", "--no-cache").stdout)
        for name in ("image_auroc", "image_ap", "image_f1_threshold"):
            assert evaluated[name] == pytest.approx(without[name], rel=1e-4)
        assert kept(parts) == 12
    draw(tmp_path / "new.png", 99)
    passed.clear()
    asked = (tmp_path / "oas.safetensors", parts / "test", tmp_path / "new.png")
    scores = run("predict", *asked, "--batch-size", 5).stdout
    assert kept(parts) == 12
    assert sum(passed) <= 2  # the new image, and one that stands for the network's code
    plain = run("predict", *asked, "--no-cache").stdout
    for a, b in zip(scores.splitlines()[1:], plain.splitlines()[1:], strict=True):
        assert float(a.split(",")[1]) == pytest.approx(float(b.split(",")[1]), rel=1e-4)


def test_no_cache_keeps_nothing(parts, tmp_path):
    model = tmp_path / "model.safetensors"
    run("fit", "--data-root", parts, "-o", model, "--resize", 40, "--crop", 32, "--no-cache")
    run("evaluate", model, "--data-root", parts, "--no-cache")
    run("predict", model, parts / "test")
    assert not (parts.parent / "cache" / "features").exists()
