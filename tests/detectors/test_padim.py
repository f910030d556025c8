"""PaDiM end to end: a literal float64 pipeline, streams, seeds, files, thresholds and bad input."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, TensorDataset

import padim_zoo
from padim_zoo import InputError, PaDiM
from padim_zoo.core import spill as arrays
from padim_zoo.detectors.held_out import split_folds
from padim_zoo.detectors.loading import load
from padim_zoo.estimators import Full
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

SMALL = {"weights": "none", "resize": 64, "crop": 48, "n_components": 40}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noisy stripes, (14, 72, 64, 3), uint8."""
    rng = np.random.default_rng(0)
    stripes = 90 + 60 * np.sin(np.arange(64) / 3)[None, None, :, None]
    return np.clip(stripes + rng.normal(0, 25, (14, 72, 64, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted(images: np.ndarray) -> PaDiM:
    return PaDiM("resnet18", **SMALL).fit(images[:10])


def literal_padim(detector: PaDiM, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and maps as the paper states them, in float64, one position at a time."""
    chosen = np.concatenate(
        [kept + start for kept, start in zip(detector.reduction_.channels, [0, 64, 192], strict=True)]
    )

    def embed(images: np.ndarray) -> np.ndarray:
        pixels = np.stack([detector.transform.image(image) for image in images])
        layers = detector.build_backbone()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
        finest = layers[0].shape[2:]
        return torch.cat([interpolate(layer, finest) for layer in layers], 1)[:, chosen].double().numpy()

    normal, unknown = embed(train), embed(test)
    distances = np.empty((len(test), *normal.shape[2:]))
    for row, column in np.ndindex(*normal.shape[2:]):
        samples, deltas = normal[:, :, row, column], unknown[:, :, row, column] - normal[:, :, row, column].mean(0)
        inverse = np.linalg.inv(np.cov(samples.T) + 0.01 * np.eye(samples.shape[1]))
        distances[:, row, column] = np.sqrt(np.einsum("nd,de,ne->n", deltas, inverse, deltas))
    size = (detector.image_size_[0], detector.image_size_[1])
    maps = interpolate(torch.from_numpy(distances)[:, None], size, mode="bilinear")[:, 0].numpy()
    maps = np.stack([gaussian_filter(one, 4, mode="reflect") for one in maps])
    return maps.max((1, 2)), maps


@pytest.mark.parametrize("n", [10, 13])
@pytest.mark.parametrize("n_components", [8, 40])
def test_equals_the_paper_literally(images, n, n_components):
    detector = PaDiM("resnet18", **{**SMALL, "n_components": n_components}).fit(images[:n])
    prediction = detector.predict(images)
    scores, maps = literal_padim(detector, images[:n], images)
    np.testing.assert_allclose(prediction.maps, maps, rtol=1e-4)
    np.testing.assert_allclose(prediction.scores, scores, rtol=1e-4)


def test_every_kind_of_image_gives_the_same_scores(images, fitted, tmp_path):
    expected = fitted.predict(images[:3]).scores
    for number, image in enumerate(images[:3]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    tensors = torch.from_numpy(images[:3]).permute(0, 3, 1, 2)
    kinds = {
        "paths": sorted(tmp_path.glob("*.png")),
        "folder": tmp_path,
        "PIL": [Image.fromarray(image) for image in images[:3]],
        "tensor": tensors,
        "float tensor": tensors.float() / 255,
        "loader": DataLoader(TensorDataset(tensors), batch_size=2),
    }
    for kind, given in kinds.items():
        np.testing.assert_allclose(fitted.predict(given).scores, expected, rtol=1e-5, err_msg=kind)


def test_neither_batch_size_nor_threads_change_scores(images, fitted):
    expected = fitted.predict(images).scores
    for batch_size, threads in ((1, 1), (5, 2), (14, 1)):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            detector = PaDiM("resnet18", **SMALL, batch_size=batch_size).fit(images[:10])
            np.testing.assert_allclose(detector.predict(images).scores, expected, rtol=1e-4)
        finally:
            torch.set_num_threads(before)


def test_the_same_seed_gives_identical_scores_and_another_seed_does_not(images, fitted):
    again = PaDiM("resnet18", **SMALL).fit(images[:10]).predict(images).scores
    np.testing.assert_array_equal(again, fitted.predict(images).scores)
    other = PaDiM("resnet18", **SMALL, seed=1).fit(images[:10]).predict(images).scores
    assert not np.allclose(other, again, rtol=1e-3)


def test_partial_fits_in_any_order_equal_one_fit(images, fitted):
    parts = PaDiM("resnet18", **SMALL)
    for part in (images[7:10], images[:2], images[2:7]):
        parts.partial_fit(part)
    assert parts.n_images_ == 10
    np.testing.assert_allclose(parts.predict(images).scores, fitted.predict(images).scores, rtol=1e-5)


def test_shared_features_give_the_scores_of_an_own_extraction(images, fitted):
    detector = PaDiM("resnet18", **SMALL)
    assert detector.features_key == fitted.features_key
    features = detector.extract(images)
    prediction = detector.fit_features(features.images(np.arange(10))).predict_features(features)
    np.testing.assert_allclose(prediction.scores, fitted.predict(images).scores, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["random", "orthogonal"])
@pytest.mark.parametrize("estimator", ["full", "diagonal", "tied", "shrinkage(0.2, epsilon=0.001)"])
def test_a_saved_detector_scores_the_same(images, estimator, reduction, tmp_path):
    detector = PaDiM("resnet18", estimator, **{**SMALL, "crop": (40, 48), "reduction": reduction}).fit(images[:10])
    detector.calibrate()
    path = tmp_path / "model.safetensors"
    detector.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    loaded = padim_zoo.load(path)
    expected, found = detector.predict(images), loaded.predict(images)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
    assert found.threshold == expected.threshold is not None
    assert loaded.get_params() == {**detector.get_params(), "layers": ("layer1", "layer2", "layer3")} | {
        "weights": "none"
    }
    loaded.save(tmp_path / "again.safetensors")
    again = load(tmp_path / "again.safetensors").predict(images)
    np.testing.assert_array_equal(again.scores, found.scores)


def test_threshold_bounds_the_false_alarm_rate_on_out_of_fold_scores(images):
    detector = PaDiM("resnet18", **SMALL).fit(images)
    calibration = detector.calibrate(false_alarm_rate=0.2, folds=4)
    assert np.mean(calibration.scores > calibration.threshold) <= 0.2
    assert detector.predict(images).threshold == calibration.threshold
    # Each out-of-fold score is that of a detector that did not see the image.
    for part in split_folds(14, 4, detector.seed):
        rest = np.setdiff1d(np.arange(14), part)
        literal = PaDiM("resnet18", **SMALL).fit(images[rest]).predict(images[part]).scores
        np.testing.assert_allclose(calibration.scores[part], literal, rtol=1e-5)


def test_a_rate_that_the_images_cannot_support_is_refused(images, fitted):
    with pytest.raises(InputError, match="99"):
        PaDiM("resnet18", **SMALL).fit(images).calibrate(false_alarm_rate=0.01)
    with pytest.raises(InputError, match="at least 2"):
        PaDiM("resnet18", **SMALL).fit(images[:1]).calibrate()


@pytest.mark.parametrize("shape", [(33, 90), (90, 33), (32, 32)])
def test_images_of_any_shape(shape):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, *shape, 3), dtype=np.uint8)
    detector = PaDiM("resnet18", weights="none", n_components=10, resize=None, crop=None).fit(pictures)
    assert detector.predict(pictures).maps.shape == (4, *shape)


def test_bad_input_is_one_clear_line(images, fitted, tmp_path):
    cases = [
        (lambda: PaDiM("resnet18", **SMALL).fit([]), "no images"),
        (lambda: fitted.predict([]), "no images"),
        (lambda: PaDiM("resnet18", **SMALL).predict(images), "not fitted"),
        (lambda: PaDiM("resnet17", **SMALL).fit(images), "did you mean"),
        (lambda: PaDiM("resnet18", "fulll", **SMALL).fit(images).predict(images), "did you mean full"),
        (lambda: PaDiM("resnet18", **{**SMALL, "n_components": 449}).fit(images), "448 channels"),
        (lambda: PaDiM("resnet18", **SMALL, device="abacus").fit(images), "abacus"),
        (lambda: load(tmp_path / "none.safetensors"), "not a file"),
    ]
    uncropped = PaDiM("resnet18", **{**SMALL, "resize": None, "crop": None}).fit(images)
    cases.append((lambda: uncropped.predict(images[:, :40, :30]), "cannot be scored"))
    cases.append((lambda: uncropped.partial_fit(images[:, :40, :30]), "cannot join"))
    for action, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            action()
        assert "\n" not in str(caught.value)


def test_where_no_disk_has_room_moments_give_the_scores_of_samples(images, monkeypatch):
    many, few_dims = np.concatenate([images, 255 - images] * 5), {**SMALL, "n_components": 4}
    plenty = PaDiM("resnet18", **few_dims).fit(many)
    budget = 3 * Moments.bytes_needed(144, 4)
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    tight = PaDiM("resnet18", **few_dims, memory=budget, batch_size=7).fit(many)
    assert isinstance(plenty.statistics_, Samples)
    assert isinstance(tight.statistics_, Moments)
    # The forward passes were of other batch sizes, which moves the last digits of features.
    np.testing.assert_allclose(tight.predict(many).scores, plenty.predict(many).scores, rtol=3e-5)
    with pytest.raises(InputError, match="fit again on all images at once"):
        tight.calibrate()
    with pytest.raises(InputError, match=r"do not fit the memory allowed, and .* has no room"):
        PaDiM("resnet18", **SMALL, memory=100_000).fit(images)


@pytest.mark.parametrize(("n_components", "form"), [(8, "primal"), (40, "dual")])
@pytest.mark.parametrize("estimator", ["full", "ledoit-wolf", "diagonal"])
def test_a_saved_detector_continues_and_merges(images, n_components, form, estimator, tmp_path):
    parameters = {**SMALL, "n_components": n_components, "estimator": estimator}
    expected = PaDiM("resnet18", **parameters).fit(images).predict(images).scores
    first, second = (PaDiM("resnet18", **parameters).fit(part) for part in (images[:9], images[9:]))
    if estimator != "diagonal":
        assert first.gaussian_.form == ("nested" if form == "primal" and estimator == "full" else form)
    path = tmp_path / "model.safetensors"
    first.save(path, resumable=True)
    np.testing.assert_allclose(load(path).partial_fit(images[9:]).predict(images).scores, expected, rtol=1e-5)
    for one, other in ((load(path), second), (second, load(path))):
        merged = one.merge(other)
        assert merged.n_images_ == 14
        np.testing.assert_allclose(merged.predict(images).scores, expected, rtol=1e-5)


def test_detectors_that_differ_in_more_than_images_do_not_merge(images, fitted):
    for change, words in (({"seed": 1}, "reduction"), ({"resize": 60}, "transform"), ({"crop": 40}, "transform")):
        other = PaDiM("resnet18", **{**SMALL, **change}).fit(images)
        with pytest.raises(InputError, match=words):
            other.merge(fitted)


def test_a_detector_saved_without_statistics_says_why_it_cannot_continue(images, tmp_path):
    PaDiM("resnet18", **{**SMALL, "n_components": 8}).fit(images).save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="resumable"):
        loaded.partial_fit(images)
    with pytest.raises(InputError, match="resumable"):
        loaded.calibrate()


def test_a_failed_fit_leaves_the_detector_as_it_was(images, fitted, tmp_path):
    detector = PaDiM("resnet18", **SMALL).fit(images[:10])
    (tmp_path / "broken.png").write_bytes(b"no image")
    for attempt in (detector.fit, detector.partial_fit):
        with pytest.raises(InputError, match=r"broken\.png"):
            attempt([*images[:3], tmp_path / "broken.png"])
    np.testing.assert_array_equal(detector.predict(images).scores, fitted.predict(images).scores)


def test_semi_orthogonal_embeddings_are_projections_of_all_channels(images):
    detector = PaDiM("resnet18", **SMALL, reduction="orthogonal").fit(images[:10])
    matrix = detector.reduction_.matrix
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(40), atol=1e-5)
    features = detector.extract(images[:2])
    finest = features.grids[0]
    maps = torch.cat([interpolate(layer, finest) for layer in features.maps], 1).flatten(2)
    expected = torch.einsum("ncp,cd->pnd", maps, matrix)
    found = detector.embed(features)[slice(None)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_estimator_object_is_saved_by_its_registered_name(images, tmp_path):
    detector = PaDiM("resnet18", Full(epsilon=0.5), **SMALL).fit(images[:10])
    detector.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.get_params()["estimator"] == "full(epsilon=0.5)"
    np.testing.assert_allclose(loaded.predict(images).scores, detector.predict(images).scores, rtol=1e-6)


@pytest.mark.parametrize(
    ("category", "pixel_auroc", "aupro"), [("hazelnut_reduced", 0.988, 0.958), ("transistor_reduced", 0.893, 0.736)]
)
def test_real_images_give_the_figures_of_a_literal_padim(shared: Path, category, pixel_auroc, aupro):
    from padim_zoo.data.mask import read_mask
    from padim_zoo.metrics import evaluate
    from padim_zoo.registry import datasets

    loaded = datasets.create("mvtec", root=shared / "data" / "mvtec_reduced").load(category)
    weights = shared / "weights" / "resnet18_imagenet1k_v1_layers1-3.safetensors"
    detector = PaDiM("resnet18", weights=str(weights)).fit(loaded.train)
    prediction = detector.predict(loaded.test)
    masks = [
        detector.transform.mask(read_mask(sample.masks, (256, 256))) if sample.masks else None for sample in loaded.test
    ]
    labels = np.array([sample.label for sample in loaded.test])
    figures = evaluate(labels, prediction.scores, prediction.maps, masks).values
    assert figures["pixel_auroc"] == pytest.approx(pixel_auroc, abs=0.01)
    assert figures["aupro"] == pytest.approx(aupro, abs=0.03)


def test_sizes_whose_grids_do_not_nest_are_told_where_that_costs_something() -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 65, 72, 3), dtype=np.uint8)
    small = {"n_components": 6, "crop": None}
    with pytest.warns(UserWarning, match=r"images of 65x72 give grids .*17x18.* multiples of 16 .* e.g. 64"):
        detector = PaDiM(resize=None, **small).fit(images)
    assert detector.gaussian_.form == "primal"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert PaDiM(resize=(64, 64), **small).fit(images).gaussian_.form == "nested"
        PaDiM(resize=None, crop=None, n_components=30).fit(images)  # the dual form knows no grids
        PaDiM(resize=None, estimator="ledoit-wolf", **small).fit(images)
