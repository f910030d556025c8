"""Detectors know the images that they have learned: none counts twice, and none is evaluated."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from padim_zoo import InputError, PaDiM
from padim_zoo.cli.main import main
from padim_zoo.core.numbers import number_of
from padim_zoo.data.image_hashes import HashedImages
from padim_zoo.detectors.ensemble import Ensemble
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.patchcore import PatchCore
from padim_zoo.detectors.spade import SPADE
from padim_zoo.statistics.moments import Moments

IMAGES = np.random.default_rng(0).integers(80, 160, (12, 40, 40, 3), dtype=np.uint8)
OPTIONS = {"resize": None, "crop": None, "precision": "float32"}
KNOWN = "new of"


def literal_hashes(images: np.ndarray) -> list[int]:
    digests = [hashlib.sha256(repr(image.shape[:2]).encode() + image.tobytes()).digest() for image in images]
    return [int.from_bytes(digest[:8], "big", signed=True) for digest in digests]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "images" / f"{index:02}.png" for index in range(len(IMAGES))]
    paths[0].parent.mkdir()
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("kind", [PaDiM, PatchCore, SPADE])
def test_hashes_are_those_of_pixels_whatever_holds_them(kind, files, tmp_path):
    expected = literal_hashes(IMAGES[:4])
    for images in (IMAGES[:4], list(IMAGES[:4]), iter(files[:4]), files[:4], [str(path) for path in files[:4]]):
        assert kind(**OPTIONS).fit(images).learned_images_.hashes.tolist() == expected
    detector = kind(**OPTIONS).fit(files[:4])
    detector.save(tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").learned_images_.hashes.tolist() == expected


def test_cached_images_have_hashes_too(files, tmp_path, monkeypatch):
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        assert PaDiM(**OPTIONS, cache=True).fit(files[:3]).learned_images_.hashes.tolist() == literal_hashes(IMAGES[:3])


def test_a_detector_of_features_does_not_know_its_images(tmp_path):
    detector = PaDiM(**OPTIONS)
    detector.fit_features(detector.extract_normal(IMAGES[:4]))
    assert detector.learned_images_.hashes is None
    detector.save(tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").learned_images_.hashes is None


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("kind", [PaDiM, PatchCore, SPADE])
def test_known_images_are_passed_over(kind, loaded, files, tmp_path):
    def detector() -> PaDiM:
        fitted = kind(**OPTIONS).fit(IMAGES[:8])
        fitted.calibrate(false_alarm_rate=0.2)
        if not loaded:
            return fitted
        fitted.save(tmp_path / "m.safetensors")
        return load(tmp_path / "m.safetensors")

    one = detector()
    threshold, scores = one.threshold_, one.predict(IMAGES).scores
    for images in (IMAGES[2:5], files[:8], iter(files[:8])):
        with pytest.warns(UserWarning, match="0 new of"):
            one.partial_fit(images)
    assert one.threshold_ == threshold
    np.testing.assert_array_equal(one.predict(IMAGES).scores, scores)
    with pytest.warns(UserWarning, match="4 new of 12"):
        one.partial_fit(iter(files))
    assert (one.n_images_, one.learned_images_.hashes.tolist()) == (12, literal_hashes(IMAGES))
    expected = detector().partial_fit(IMAGES[8:])
    np.testing.assert_allclose(one.predict(IMAGES).scores, expected.predict(IMAGES).scores, rtol=1e-5)


def of_moments(images: np.ndarray) -> PaDiM:
    detector = PaDiM(**OPTIONS, n_components=6).fit(images)
    samples = detector.statistics_
    detector.set_statistics(Moments.of(samples.embeddings, samples.embeddings.mean()), detector.learned_images_)
    return detector


def of_samples(images: np.ndarray, **options: object) -> PaDiM:
    return PaDiM(**OPTIONS, n_components=6, **options).fit(images)


@pytest.mark.parametrize(
    ("one", "other"), [(of_samples, of_samples), (of_samples, of_moments), (of_moments, of_samples)]
)
def test_an_overlapping_merge_counts_images_once(one, other):
    with pytest.warns(UserWarning, match="4 new of 8"):
        merged = one(IMAGES[:8]).merge(other(IMAGES[4:]))
    assert (merged.n_images_, sorted(merged.learned_images_.hashes)) == (12, sorted(literal_hashes(IMAGES)))
    expected = of_samples(IMAGES).predict(IMAGES).scores
    np.testing.assert_allclose(merged.predict(IMAGES).scores, expected, rtol=1e-4)


def test_a_merge_takes_all_passes_of_an_image_out():
    options = {"augment": "flip", "passes": 2}
    with pytest.warns(UserWarning, match="4 new of 8"):
        merged = of_samples(IMAGES[:8], **options).merge(of_samples(IMAGES[4:], **options))
    assert merged.n_images_ == 12
    assert merged.statistics_.n == 24


def test_a_merge_of_what_is_known():
    part, whole = of_samples(IMAGES[:6]), of_samples(IMAGES)
    whole.calibrate(false_alarm_rate=0.2)
    threshold = whole.threshold_
    with pytest.warns(UserWarning, match="0 new of 6"):
        whole.merge(part)
    assert (whole.n_images_, whole.threshold_) == (12, threshold)
    with pytest.warns(UserWarning, match="6 new of 12"):
        assert part.merge(of_moments(IMAGES)).n_images_ == 12
    with (
        pytest.warns(UserWarning, match=KNOWN),
        pytest.raises(InputError, match="4 of 8 images were fitted on in both"),
    ):
        of_moments(IMAGES[:8]).merge(of_moments(IMAGES[4:]))


def test_an_ensemble_knows_what_its_members_know():
    ensemble = Ensemble([PaDiM(**OPTIONS), SPADE(**OPTIONS)]).fit(IMAGES[:6])
    assert set(ensemble.learned_images_.hashes) == set(literal_hashes(IMAGES[:6]))


def test_no_more_images_are_drawn_than_are_wanted():
    drawn = []

    def images():
        for index, image in enumerate(IMAGES):
            drawn.append(index)
            yield image

    hashed = HashedImages(images(), None, np.array(literal_hashes(IMAGES[:2])))
    assert not hashed.all_learned()
    assert drawn == [0, 1, 2]
    assert len(list(hashed)) == 10


# -- commands --------------------------------------------------------------------------------------------------------


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


@pytest.fixture
def part(tmp_path: Path, files: list[Path]) -> Path:
    """A category whose normal test images are those of the fit, and a defect."""
    folder = tmp_path / "part"
    for split in ("train", "test"):
        (folder / split / "good").mkdir(parents=True)
        for path in files[:8]:
            shutil.copy(path, folder / split / "good")
    (folder / "test" / "hole").mkdir()
    defect = IMAGES[11].copy()
    defect[10:30, 10:30] = 0
    Image.fromarray(defect).save(folder / "test" / "hole" / "0.png")
    return folder


@pytest.mark.parametrize(
    ("count", "dimensions", "told"), [(1, 64, True), (24, 64, True), (24, 20, False), (41, 64, False)]
)
def test_a_fit_says_where_the_ridge_decides(count, dimensions, told):
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    model = PaDiM(resize=None, n_components=dimensions).fit(list(images))
    expected = f"{number_of(count, 'image')} can vary in only {count - 1} of {dimensions} directions"
    assert any(expected in note for note in model.notes_of_fit()) == told


def test_an_evaluation_leaves_learned_images_out(part, files, tmp_path):
    model = tmp_path / "m.safetensors"
    told = run("fit", part / "train" / "good", "-o", model, "--resize", "none", "--crop", "none")
    assert "is based on 8 images" in told
    assert "8 different images promise no false-alarm rate below 0.111" in told
    assert "ridge 0.01 decides" in told
    refused = run("evaluate", model, "--data-root", part, code=2)
    assert "learned all 8 normal test images" in refused
    assert refused.strip().count("\n") == 0
    for path in files[8:11]:
        shutil.copy(path, part / "test" / "good")
    told = json.loads(run("evaluate", model, "--data-root", part, "--json"))
    assert (told["normal_images"], told["learned_images_left_out"]) == (3, 8)
    assert any("8 of 12 test images are left out" in note for note in told["notes"])
    rates = {row["false_alarm_rate"]: row["score"] for row in told["false_alarm_rates"]}
    assert list(rates) == [0.01, 0.02, 0.05, 0.1, pytest.approx(1 / 9)]
    assert [score is None for score in rates.values()] == [True] * 4 + [False]
    assert rates[max(rates)] == pytest.approx(load(model).threshold_)


def test_a_learned_defect_is_told(part, files, tmp_path):
    model = tmp_path / "m.safetensors"
    for path in files[8:]:
        shutil.copy(path, part / "test" / "good")
    images = [part / "train" / "good", tmp_path / "hole"]
    shutil.copytree(part / "test" / "hole", tmp_path / "hole")
    PaDiM(**OPTIONS).fit([*sorted(images[0].iterdir()), *images[1].iterdir()]).save(model)
    told = run("evaluate", model, "--data-root", part)
    assert "1 of these are labeled anomalous: the model has learned defects as normal" in told


@pytest.mark.parametrize("kind", [PaDiM, PatchCore])
def test_more_images_may_not_hold_defects_either(kind, files, tmp_path):
    shutil.copytree(files[0].parent, tmp_path / "parts" / "good")
    shutil.copytree(files[0].parent, tmp_path / "parts" / "bad")
    detector = kind(**OPTIONS)
    with pytest.raises(InputError, match="parts/good"):
        detector.partial_fit(tmp_path / "parts")
    detector.fit(files[:4])
    with pytest.raises(InputError, match="parts/good"):
        detector.partial_fit(tmp_path / "parts")
    assert detector.n_images_ == 4


def test_a_fit_that_fails_leaves_the_bit_depth(tmp_path):
    deep = [(image[:, :, 0].astype(np.uint16) << 4) for image in IMAGES]  # 12 bits
    detector = PaDiM(**OPTIONS).fit(deep[:6])
    before = detector.predict(deep[6:]).scores
    full = [image << 4 for image in deep[:3]]
    with pytest.raises(InputError):
        detector.fit([*full, np.zeros((3, 3, 3, 3, 3), dtype=np.uint16)])
    np.testing.assert_array_equal(detector.predict(deep[6:]).scores, before)


def test_a_first_batch_that_fails_leaves_the_bit_depth_unknown():
    deep = [(image[:, :, 0].astype(np.uint16) << 4) for image in IMAGES]  # 12 bits
    detector = PaDiM(**OPTIONS)
    with pytest.raises(InputError, match="needs one size"):
        detector.partial_fit([*deep[:3], deep[3][:32, :32]])
    assert detector.extractor.facts.bit_depth is None
    detector.partial_fit(IMAGES)
    np.testing.assert_array_equal(detector.predict(IMAGES).scores, PaDiM(**OPTIONS).fit(IMAGES).predict(IMAGES).scores)
