"""Subspace against its definition, written down literally in float64; and what its moments make possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import avg_pool2d, interpolate

from padim_zoo import InputError, PaDiM, Subspace, load
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.pooled import pooled_moments
from padim_zoo.statistics.samples import Samples

SMALL: dict[str, Any] = {"backbone": "resnet18", "weights": "none", "resize": 64, "crop": (48, 64)}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noisy stripes, (14, 72, 80, 3), uint8."""
    rng = np.random.default_rng(0)
    stripes = 90 + 60 * np.sin(np.arange(80) / 3)[None, None, :, None]
    return np.clip(stripes + rng.normal(0, 25, (14, 72, 80, 3)), 0, 255).astype(np.uint8)


def literal_patches(detector: Subspace, images: np.ndarray) -> np.ndarray:
    pixels = np.stack([detector.transform.image(image) for image in images])
    layers = detector.build_backbone()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    second, third = (avg_pool2d(layer.double(), 3, 1, 1) for layer in layers[1:3])
    joined = torch.cat([second, interpolate(third, second.shape[2:], mode="bilinear")], 1)
    return joined.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999, 0.99999, 1.0])
def test_it_equals_the_definition(images, share):
    detector = Subspace(explained_variance=share, **SMALL).fit(images[:10])
    normal, unknown = literal_patches(detector, images[:10]), literal_patches(detector, images)
    grid, D = normal.shape[1:3], normal.shape[3]
    patches = normal.reshape(-1, D)
    mean = patches.mean(0)
    _, singular, rows = np.linalg.svd(patches - mean, full_matrices=True)
    variances = np.zeros(D)
    variances[: len(singular)] = singular**2
    leading = int(np.searchsorted(variances.cumsum() / variances.sum(), share - 1e-12)) + 1
    leading = min(leading, D - 1)
    if share < 1:  # all of the variance: how many directions hold rounding alone is rounding too
        assert detector.model_.leading == leading
    deviations = unknown.reshape(-1, D) - mean
    left = deviations - deviations @ rows[:leading].T @ rows[:leading]
    distances = np.linalg.norm(left, axis=1).reshape(-1, *grid)
    maps = interpolate(torch.from_numpy(distances)[:, None], (48, 64), mode="bilinear")[:, 0].numpy()
    maps = np.stack([gaussian_filter(one, 4, mode="reflect") for one in maps])
    prediction = detector.predict(images)
    tolerance = 1e-3 if share < 1 else 1e-1
    np.testing.assert_allclose(prediction.maps, maps, rtol=tolerance, atol=1e-4)
    worst = np.sort(maps.reshape(len(images), -1))[:, -31:].mean(1)  # 1 % of 3072 pixels, rounded up
    np.testing.assert_allclose(prediction.scores, worst, rtol=tolerance, atol=1e-4)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_whichever_directions_are_fewer_are_kept(images, share):
    model = Subspace(explained_variance=share, **SMALL).fit(images[:10]).model_
    assert model.outside == (share == 1)
    assert model.directions.shape[1] == (384 - model.leading if model.outside else model.leading) < 192


def test_out_of_fold_scores_are_those_of_fits_without_the_fold(images):
    detector = Subspace(**SMALL).fit(images)
    scores = detector.calibrate(folds=3).scores
    samples = detector.statistics_.embeddings
    rests = [np.arange(5, 14), np.r_[0:5, 9:14], np.arange(9)]
    for model, rest in zip(detector.fold_models(Samples(samples), rests), rests, strict=True):
        literal = detector.fit_model(Samples(samples.images(rest)))
        np.testing.assert_allclose(
            model.distances(samples.layers[0]), literal.distances(samples.layers[0]), rtol=1e-3, atol=1e-4
        )
    assert len(scores) == 14


@pytest.mark.parametrize("loaded", [False, True])
def test_more_images_later_are_one_fit(images, loaded, tmp_path):
    detector = Subspace(**SMALL).fit(images[:6])
    if loaded:
        detector.save(tmp_path / "model.safetensors", resumable=True)
        detector = load(tmp_path / "model.safetensors")
    detector.partial_fit(images[6:9]).partial_fit(images[9:])
    expected = Subspace(**SMALL).fit(images)
    assert detector.n_images_ == 14
    np.testing.assert_allclose(detector.predict(images).scores, expected.predict(images).scores, rtol=1e-3)
    assert detector.learned_images_.hashes.tolist() == expected.learned_images_.hashes.tolist()


@pytest.mark.parametrize("loaded", [(False, False), (True, False), (False, True), (True, True)])
def test_merged_detectors_are_one_fit(images, loaded, tmp_path):
    parts = [Subspace(**SMALL).fit(images[:6]), Subspace(**SMALL).fit(images[6:])]
    for number, (part, again) in enumerate(zip(parts, loaded, strict=True)):
        if again:
            part.save(tmp_path / f"{number}.safetensors", resumable=True)
            parts[number] = load(tmp_path / f"{number}.safetensors")
    merged = parts[0].merge(parts[1])
    assert merged.n_images_ == 14
    expected = Subspace(**SMALL).fit(images).predict(images)
    np.testing.assert_allclose(merged.predict(images).scores, expected.scores, rtol=1e-3)
    with pytest.raises(InputError, match="differ in levels"):
        Subspace(**SMALL).fit(images[:3]).merge(Subspace(levels=1, **SMALL).fit(images[3:6]))


def test_a_file_that_is_not_resumable_is_small_and_says_so(images, tmp_path):
    detector = Subspace(**SMALL).fit(images[:6])
    assert detector.size_in_bytes() < 4 * 384 * 385
    detector.save(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="save with resumable=True"):
        load(tmp_path / "model.safetensors").partial_fit(images[6:])


def test_pooled_moments_are_those_of_all_patches(images):
    samples = PaDiM("resnet18", weights="none", n_components=9, resize=64).fit(images).statistics_
    embeddings = samples.embeddings
    patches = embeddings[:].flatten(0, 1).double().numpy()
    of_moments = pooled_moments(Moments.of(embeddings, embeddings.mean()))
    for moments in (pooled_moments(samples), of_moments, of_moments.about(pooled_moments(samples).reference)):
        assert moments.n == len(patches)
        np.testing.assert_allclose(moments.mean[:][0, 0], patches.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(moments.scatter(slice(0, 1))[0], np.cov(patches.T) * (len(patches) - 1), rtol=1e-4)


def test_patches_that_do_not_count_have_no_part(images):
    roi = np.zeros((72, 80), dtype=bool)
    roi[20:50, 20:50] = True
    detector = Subspace(roi=roi, **SMALL).fit(images[:8])
    embeddings = detector.statistics_.embeddings
    counted = embeddings.present(embeddings.grid)
    (layer,) = embeddings.layers
    moments = pooled_moments(detector.statistics_)
    assert moments.n == int(counted.sum()) < layer.shape[0] * layer.shape[1]
    np.testing.assert_allclose(moments.mean[:][0, 0], layer[counted].double().mean(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loaded", [False, True])
def test_images_can_be_taken_out_again(images, loaded, tmp_path):
    detector = Subspace(**SMALL).fit(images)
    if loaded:
        detector.save(tmp_path / "model.safetensors", resumable=True)
        detector = load(tmp_path / "model.safetensors")
    detector.forget(images[9:])
    assert detector.n_images_ == 9
    expected = Subspace(**SMALL).fit(images[:9]).predict(images)
    np.testing.assert_allclose(detector.predict(images).scores, expected.scores, rtol=1e-3)
