"""Forgetting images gives the detector that was never fitted on them: the oracle is a fit without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from padim_zoo import InputError, PaDiM
from padim_zoo.backbones.weight_provenance import hashes_of
from padim_zoo.cache.caches import Caches
from padim_zoo.cache.features import FeatureCache
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.mahalanobis_ad import MahalanobisAD
from padim_zoo.detectors.patchcore import PatchCore
from padim_zoo.detectors.spade import SPADE
from padim_zoo.detectors.stfpm import STFPM
from padim_zoo.statistics.moments import Moments

IMAGES = np.random.default_rng(0).integers(80, 160, (14, 64, 64, 3), dtype=np.uint8)
REST = np.delete(np.arange(14), [2, 9])
OPTIONS = {"resize": None, "crop": None, "precision": "float32"}
EXACT = [
    (PaDiM, {"n_components": 30}),  # dual
    (PaDiM, {"n_components": 6}),  # nested
    (PaDiM, {"n_components": 6, "estimator": "ledoit-wolf"}),  # primal
    (PaDiM, {"n_components": 6, "estimator": "diagonal"}),
    (PaDiM, {"n_components": 6, "estimator": "tied"}),
    (PaDiM, {"n_components": 6, "augment": "flip", "passes": 2, "tta": "flip"}),
    (SPADE, {}),
    (MahalanobisAD, {}),
    (PatchCore, {"coreset_ratio": 0.1}),
    (PatchCore, {"coreset_ratio": 0.3, "radius": 1}),
]


def agrees_with_a_refit(detector, kind, options, rtol=1e-5) -> None:
    refit = kind(**OPTIONS, **options).fit(IMAGES[REST])
    assert detector.n_images_ == refit.n_images_
    assert detector.learned_images_.hashes.tolist() == refit.learned_images_.hashes.tolist()
    ours, theirs = detector.predict(IMAGES), refit.predict(IMAGES)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=rtol)
    if theirs.maps is not None:
        np.testing.assert_allclose(ours.maps, theirs.maps, rtol=rtol, atol=rtol * theirs.maps.max())


@pytest.mark.parametrize(("kind", "options"), EXACT)
def test_a_fit_forgets_samples(kind, options):
    detector = kind(**OPTIONS, **options).fit(IMAGES)
    detector.calibrate(false_alarm_rate=0.2)
    assert detector.forget(IMAGES[[9, 2]]) is detector
    assert detector.threshold_ is None
    agrees_with_a_refit(detector, kind, options)
    refit = kind(**OPTIONS, **options).fit(IMAGES[REST])
    expected = refit.calibrate(false_alarm_rate=0.2)
    ours = detector.calibrate(false_alarm_rate=0.2)
    np.testing.assert_allclose(ours.scores, expected.scores, rtol=1e-5)
    assert ours.threshold == pytest.approx(expected.threshold, rel=1e-5)


@pytest.mark.parametrize(("kind", "options"), EXACT[:-2])
def test_a_file_forgets_what_it_holds(kind, options, tmp_path):
    path, again = tmp_path / "m.safetensors", tmp_path / "again.safetensors"
    kind(**OPTIONS, **options).fit(IMAGES).save(path, resumable=True, dtype="float32")
    detector = load(path).forget(IMAGES[[2, 9]])
    agrees_with_a_refit(detector, kind, options)
    detector.save(again, resumable=True, dtype="float32")
    agrees_with_a_refit(load(again), kind, options)


def test_nothing_of_a_forgotten_image_is_left_in_the_moments():
    detector = PaDiM(**OPTIONS, n_components=6).fit(IMAGES)
    samples = detector.statistics_
    detector.set_statistics(Moments.of(samples.embeddings, samples.embeddings.mean()), detector.learned_images_)
    detector.forget(IMAGES[[2, 9]])
    embeddings = PaDiM(**OPTIONS, n_components=6).fit(IMAGES[REST]).statistics_.embeddings
    expected = Moments.of(embeddings, embeddings.mean())
    for ours, theirs in zip(detector.statistics_.arrays().values(), expected.arrays().values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * (1 + float(theirs.abs().max())))
    for ours, theirs in zip(detector.statistics_.reference.layers, expected.reference.layers, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_copies_of_an_image_are_forgotten_together(tmp_path):
    for loaded in (False, True):
        detector = PaDiM(**OPTIONS, n_components=6).fit(np.concatenate([IMAGES, IMAGES[[2, 2]]]))
        if loaded:
            detector.save(tmp_path / "m.safetensors", resumable=True, dtype="float32")
            detector = load(tmp_path / "m.safetensors")
        agrees_with_a_refit(detector.forget(IMAGES[[2, 9]]), PaDiM, {"n_components": 6})


def test_forgotten_copies_count_as_images_that_weights_were_adapted_to(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        Image.fromarray(IMAGES[min(number, 4)]).save(path)  # the last is a copy of the one before
    detector = PaDiM(**OPTIONS, n_components=6).fit(paths)
    detector.extractor.in_use.adapted_to = frozenset(hashes_of(paths[2:]))
    detector.learned_images_ = replace(detector.learned_images_, adapted=4)
    detector.forget([paths[4]])
    assert (detector.n_images_, detector.learned_images_.adapted) == (4, 2)


def test_groups_of_forgotten_images_go():
    groups = np.repeat(np.arange(7), 2)
    detector = PaDiM(**OPTIONS, n_components=6).fit(IMAGES)
    detector.calibrate(groups=groups)
    detector.forget(IMAGES[[2, 9]])
    assert detector.learned_images_.groups.numbers.tolist() == np.unique(groups[REST], return_inverse=True)[1].tolist()


def test_a_region_of_interest_stays(tmp_path):
    roi = np.zeros((64, 64), dtype=bool)
    roi[8:40, 16:56] = True
    for n_components in (6, 30):
        options = {"n_components": n_components, "roi": roi}
        PaDiM(**OPTIONS, **options).fit(IMAGES).save(tmp_path / "m", resumable=True, dtype="float32")
        agrees_with_a_refit(load(tmp_path / "m").forget(IMAGES[[2, 9]]), PaDiM, options)


def test_patches_leave_a_memory_bank(tmp_path):
    PatchCore(**OPTIONS, coreset_ratio=1).fit(IMAGES).save(tmp_path / "m")
    with pytest.warns(UserWarning, match="128 of 896 patches leave the memory bank"):
        detector = load(tmp_path / "m").forget(IMAGES[[2, 9]])
    agrees_with_a_refit(detector, PatchCore, {"coreset_ratio": 1})
    PatchCore(**OPTIONS, coreset_ratio=0.1).fit(IMAGES).save(tmp_path / "m")
    with pytest.warns(UserWarning, match="fit again to be exact"):
        detector = load(tmp_path / "m").forget(IMAGES[[2, 9]])
    theirs = PatchCore(**OPTIONS, coreset_ratio=1).fit(IMAGES[[2, 9]]).model_.patches
    assert (detector.model_.patches[:, None] - theirs).norm(dim=2).min() > 0.1


def test_what_cannot_be_forgotten_is_refused_in_a_line(tmp_path):
    detector = PaDiM(**OPTIONS, n_components=6).fit(IMAGES)
    detector.calibrate(false_alarm_rate=0.2)
    threshold, model = detector.threshold_, detector.model_
    for images, why in (
        (np.concatenate([IMAGES[:1], 255 - IMAGES[:1]]), "has not learned 1 of 2 images, the first image 1"),
        (IMAGES, "all 14 images"),
    ):
        with pytest.raises(InputError, match=why):
            detector.forget(images)
    assert (detector.threshold_, detector.model_, detector.n_images_) == (threshold, model, 14)
    detector.save(tmp_path / "m")
    with pytest.raises(InputError, match="does not hold the statistics"):
        load(tmp_path / "m").forget(IMAGES[:1])
    of_features = PaDiM(**OPTIONS, n_components=6)
    of_features.fit_features(of_features.extract_normal(IMAGES))
    with pytest.raises(InputError, match="does not know which it has learned"):
        of_features.forget(IMAGES[:1])
    with pytest.raises(InputError, match="does not know which it has learned"):  # the fit went with the parameter
        PaDiM(**OPTIONS, n_components=6).fit(IMAGES).set_params(resize=48).forget(IMAGES[:1])
    STFPM(**OPTIONS, epochs=1).fit(IMAGES).save(tmp_path / "s")
    with pytest.raises(InputError, match="a student and not the normal images"):
        load(tmp_path / "s").forget(IMAGES[:1])


def test_caches_forget_files_whatever_made_the_entries(tmp_path, monkeypatch):
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    large = np.random.default_rng(0).integers(0, 255, (4, 600, 600, 3), dtype=np.uint8)
    for path, image in zip(paths, large, strict=True):
        Image.fromarray(image).save(path)
    for crop in (32, 48):
        detector = PaDiM(resize=64, crop=crop, precision="float32", cache=True).fit(paths)
    entries = {entry for folder in (tmp_path / "cache").iterdir() for entry in folder.glob("*.safetensors")}
    assert len(entries) == 4 * (2 + 1 + 1)  # features of both crops, a resized image, a fingerprint
    detector.forget(paths[:1])
    left = {entry for folder in (tmp_path / "cache").iterdir() for entry in folder.glob("*.safetensors")}
    assert len(left) == 3 * 4
    assert Caches.usual().forget(paths) == 12
    assert not list(FeatureCache().folder.glob("*"))
