"""Augmented fits and test-time augmentation of every detector, against literal lists of images and literal loops."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from padim_zoo import SPADE, STFPM, InputError, MahalanobisAD, PaDiM, PatchCore
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.data.augmentation import parse_operations, views_for_scoring
from padim_zoo.detectors.ensemble import Ensemble
from padim_zoo.detectors.held_out import split_folds
from padim_zoo.detectors.loading import load
from padim_zoo.registry import backbones

SMALL: dict[str, Any] = {"weights": "none", "resize": 56, "crop": 48, "seed": 3}
AUGMENT: dict[str, Any] = {"augment": "flip,rotate(10),brightness(0.1)", "passes": 3}
KINDS = [
    (PaDiM, {"n_components": 30}),
    (PaDiM, {"n_components": 8, "estimator": "ledoit-wolf"}),
    (PatchCore, {"coreset_ratio": 0.2}),
    (SPADE, {"n_neighbors": 3}),
    (MahalanobisAD, {}),
]
TTA = "flip,rotate(9)"


@lru_cache
def network(kind: Any) -> Backbone:
    """The layers that a detector wants of one network for all tests: to draw its weights takes most of a small fit."""
    return backbones.create("resnet18", layers=kind.layers_wanted("resnet18"), weights="none")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noisy stripes, (12, 56, 56, 3), uint8: of the size of the resize, so that a view of them is one of the images."""
    rng = np.random.default_rng(0)
    stripes = 90 + 60 * np.sin(np.arange(56) / 3)[None, None, :, None]
    return np.clip(stripes + rng.normal(0, 25, (12, 56, 56, 3)), 0, 255).astype(np.uint8)


def literal_views(detector: Any, image: np.ndarray) -> list[np.ndarray]:
    """The passes of an image, cropped."""
    box = detector.transform.crop_box(56, 56)
    return [view.image(image, box) for view in detector.extractor.views.of_fit.augmentation.views(image)]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_an_augmented_fit_is_a_fit_on_the_list_of_augmented_images(kind, options, images):
    detector = kind(network(kind), **options, **AUGMENT, **SMALL).fit(images[:8])
    assert detector.n_images_ == 8
    every = [view for image in images[:8] for view in literal_views(detector, image)]
    assert len({view.tobytes() for view in every}) == 24
    plain = kind(network(kind), **options, **{**SMALL, "resize": None}).fit(every)
    expected = plain.predict([image[4:52, 4:52] for image in images])
    found = detector.predict(images)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    if found.maps is not None:
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_tta_is_a_loop_over_views_whose_maps_are_brought_back(kind, options, images):
    plain = kind(network(kind), **options, **SMALL).fit(images[:8])
    detector = kind(network(kind), tta=TTA, **options, **SMALL).fit(images[:8])
    views = views_for_scoring(parse_operations("tta", TTA))
    assert len(views) == 4
    box = plain.transform.crop_box(56, 56)
    plain.resize = None  # so that the views are scored as they are
    found = detector.predict(images)
    of_views = [plain.predict([view.image(image, box) for image in images]) for view in views]
    scores = np.mean([prediction.scores for prediction in of_views], 0)
    if found.maps is None:
        np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
        return
    total, count = np.zeros((12, 48, 48)), np.zeros((48, 48))
    for view, prediction in zip(views, of_views, strict=True):
        restored, seen = view.restore(torch.from_numpy(prediction.maps))
        total, count = total + restored.numpy(), count + seen.numpy()
    np.testing.assert_allclose(found.maps, total / count, rtol=1e-4, atol=1e-5)
    expected = (total / count).max((1, 2)) if kind is PaDiM else scores
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_views_of_an_image_are_in_one_fold(kind, options, images):
    """Out-of-fold scores are those of detectors that were fitted on the other images alone, all their views."""
    detector = kind(network(kind), tta="flip", **options, **AUGMENT, **SMALL).fit(images[:8])
    calibration = detector.calibrate(folds=4)
    assert len(calibration.scores) == 8
    assert calibration.false_alarm_rate == pytest.approx(1 / 9)
    for part in split_folds(8, 4, 3):
        rest = np.setdiff1d(np.arange(8), part)
        other = kind(network(kind), tta="flip", **options, **AUGMENT, **SMALL).fit(images[rest])
        np.testing.assert_allclose(calibration.scores[part], other.predict(images[part]).scores, rtol=1e-3)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_files_batches_and_parts_change_nothing(kind, options, images, tmp_path):
    chosen: dict[str, Any] = {**options, **AUGMENT, "tta": TTA, **SMALL}
    detector = kind(network(kind), **chosen).fit(images[:8])
    detector.calibrate()
    expected = detector.predict(images)
    detector.save(tmp_path / "model.safetensors", dtype="float32")
    loaded = load(tmp_path / "model.safetensors")
    assert (loaded.augment, loaded.passes, loaded.tta) == (chosen["augment"], 3, TTA)
    assert loaded.threshold_ == detector.threshold_
    np.testing.assert_allclose(loaded.predict(images).scores, expected.scores, rtol=1e-4)
    parts = kind(network(kind), batch_size=2, **chosen)
    parts.partial_fit(images[:3]).partial_fit(images[3:8])
    assert parts.n_images_ == 8
    np.testing.assert_allclose(parts.predict(images).scores, expected.scores, rtol=1e-4)
    np.testing.assert_allclose(parts.calibrate().scores, detector.calibration_.scores, rtol=1e-3)
    features = detector.extract_normal(images[:8])
    assert len(features) == 8
    assert features.views == 6
    by_features = kind(network(kind), **chosen).fit_features(features)
    np.testing.assert_allclose(by_features.predict_features(features).scores, expected.scores[:8], rtol=1e-4)


def test_a_student_learns_from_all_passes_and_is_held_out_whole_images(images, monkeypatch):
    from padim_zoo.detectors import student

    seen: list[np.ndarray] = []
    epoch = student._epoch
    monkeypatch.setattr(student, "_epoch", lambda *given: (seen.append(given[3].numpy()), epoch(*given))[1])
    detector = STFPM("resnet18", epochs=2, tta="flip", **AUGMENT, **SMALL)
    try:
        detector.fit(images[:8]).calibrate()
    except InputError as error:  # two epochs need not be enough for a student
        assert "collapsed" in str(error)  # noqa: PT017
    held_out = {int(i) for i in np.random.default_rng(3).permutation(8)[:2]}
    expected = {view.tobytes() for i in set(range(8)) - held_out for view in literal_views(detector, images[i])}
    assert {image.transpose(1, 2, 0).tobytes() for image in seen[0]} == expected
    assert len(seen[0]) == 18


def test_members_of_an_ensemble_have_views_of_their_own(images, tmp_path):
    members = [
        PaDiM(network(PaDiM), n_components=30, tta="flip", **SMALL),
        PatchCore(network(PatchCore), coreset_ratio=0.2, **AUGMENT, **SMALL),
    ]
    ensemble = Ensemble(members).fit(images[:8])
    ensemble.calibrate()
    alone = PaDiM(network(PaDiM), n_components=30, tta="flip", **SMALL).fit(images[:8])
    np.testing.assert_allclose(members[0].predict(images).scores, alone.predict(images).scores, rtol=1e-5)
    ensemble.save(tmp_path / "ensemble.safetensors")
    loaded = load(tmp_path / "ensemble.safetensors")
    np.testing.assert_allclose(loaded.predict(images).scores, ensemble.predict(images).scores, rtol=1e-2, atol=1e-3)
    with pytest.raises(InputError, match="fit and predict by images"):
        ensemble.extract(images)


def test_tta_can_be_changed_without_another_fit(images, tmp_path):
    detector = PaDiM(network(PaDiM), n_components=30, **SMALL).fit(images[:8])
    detector.calibrate()
    detector.set_params(tta="flip")
    assert detector.threshold_ is None
    expected = PaDiM(network(PaDiM), n_components=30, tta="flip", **SMALL).fit(images[:8]).predict(images)
    np.testing.assert_allclose(detector.predict(images).scores, expected.scores, rtol=1e-5)
    with pytest.raises(InputError, match="all views of tta"):
        detector.calibrate()


def test_keys_tell_views_apart():
    plain, other = PaDiM(network(PaDiM), **SMALL), PaDiM(network(PaDiM), **AUGMENT, **SMALL)
    assert plain.features_key != other.features_key
    assert plain.cache_key(fit=False) == other.cache_key(fit=False) == plain.cache_key(fit=True)
    assert other.cache_key(fit=True) not in (None, other.cache_key(fit=False))
    flipped = PaDiM(network(PaDiM), tta="flip", **SMALL)
    assert flipped.cache_key(fit=False) not in (None, plain.cache_key(fit=False))
    assert PaDiM(network(PaDiM), tta="rotate(5)", **SMALL).cache_key(fit=False) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": 3}, "passes is 3 without augment"),
        ({"augment": "flip", "passes": 1}, "passes is 1: expected a whole number of at least 2"),
        ({"augment": "turn(3)"}, r"augment has 'turn\(3\)'"),
        ({"tta": "rotate"}, "tta has 'rotate'"),
    ],
)
def test_bad_options_are_refused_before_any_image(options, message):
    with pytest.raises(InputError, match=message):
        PaDiM(**options).fit(["there is no such file.png"])
