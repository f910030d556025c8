"""SPADE, PatchCore and MahalanobisAD against their papers, written down literally in float64."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from torch.nn.functional import avg_pool2d, interpolate

from padim_zoo import SPADE, InputError, MahalanobisAD, PatchCore
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.patchcore import _weight

SMALL: dict[str, Any] = {"weights": "none", "resize": 64, "crop": (48, 64)}
KINDS = [
    (SPADE, {"n_neighbors": 3}),
    (PatchCore, {"coreset_ratio": 0.2}),
    (PatchCore, {"coreset_ratio": 0.4, "radius": 1}),
    (MahalanobisAD, {}),
    (MahalanobisAD, {"components": "npca"}),
]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noisy stripes, (14, 72, 80, 3), uint8."""
    rng = np.random.default_rng(0)
    stripes = 90 + 60 * np.sin(np.arange(80) / 3)[None, None, :, None]
    return np.clip(stripes + rng.normal(0, 25, (14, 72, 80, 3)), 0, 255).astype(np.uint8)


def feature_maps(detector: BackboneDetector[Any], images: np.ndarray) -> list[torch.Tensor]:
    pixels = np.stack([detector.transform.image(image) for image in images])
    layers = detector.build_backbone()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    return [layer.double() for layer in layers]


def smooth(distances: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    maps = interpolate(torch.from_numpy(distances)[:, None], size, mode="bilinear")[:, 0].numpy()
    return np.stack([gaussian_filter(one, 4, mode="reflect") for one in maps])


@pytest.mark.parametrize("n_neighbors", [3, 50])
def test_spade_equals_the_paper(images, n_neighbors):
    detector = SPADE("resnet18", n_neighbors=n_neighbors, **SMALL).fit(images[:10])
    prediction = detector.predict(images)
    normal, unknown = feature_maps(detector, images[:10]), feature_maps(detector, images)
    assert [layer.shape[1] for layer in normal] == [64, 128, 256, 512]
    pairs = cdist(unknown[3].mean((2, 3)), normal[3].mean((2, 3)))
    nearest = np.argsort(pairs, 1)[:, :n_neighbors]
    np.testing.assert_allclose(prediction.scores, np.sort(pairs, 1)[:, :n_neighbors].mean(1), rtol=1e-4)
    for image in range(len(images)):
        maps = []
        for layer, gallery in zip(unknown[:3], normal[:3], strict=True):
            positions = gallery[nearest[image]].permute(0, 2, 3, 1).flatten(0, 2)
            found = cdist(layer[image].permute(1, 2, 0).flatten(0, 1), positions).min(1)
            maps.append(smooth(found.reshape(1, *layer.shape[2:]), (48, 64))[0])
        np.testing.assert_allclose(prediction.maps[image], np.mean(maps, 0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"score": "mean(0.1)"}, {"tta": "flip"}])
@pytest.mark.parametrize("kind", [SPADE, PatchCore])
def test_scores_alone_are_those_of_a_prediction(images, kind, more):
    detector = kind("resnet18", n_neighbors=3, **SMALL, **more).fit(images[:10])
    features = detector.extract(images)
    np.testing.assert_array_equal(detector.score_features(features), detector.predict_features(features).scores)


def literal_patches(detector: PatchCore, images: np.ndarray) -> np.ndarray:
    second, third = (avg_pool2d(layer, 3, 1, 1) for layer in feature_maps(detector, images)[1:3])
    joined = torch.cat([second, interpolate(third, second.shape[2:], mode="bilinear")], 1)
    return joined.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("n_neighbors", [1, 9])
@pytest.mark.parametrize("coreset_ratio", [1.0, 0.1])
def test_patchcore_equals_the_paper(images, n_neighbors, coreset_ratio):
    detector = PatchCore("resnet18", coreset_ratio=coreset_ratio, n_neighbors=n_neighbors, **SMALL).fit(images[:10])
    prediction = detector.predict(images[10:])
    bank, patches = literal_patches(detector, images[:10]), literal_patches(detector, images[10:])
    grid, n_components = bank.shape[1:3], bank.shape[3]
    bank = bank.reshape(-1, n_components)
    assert detector.model_.patches.shape == (round(coreset_ratio * len(bank)), 384)
    # The memory holds normal patches, each once, whichever the coreset chose.
    from_bank = cdist(detector.model_.patches.double().numpy(), bank)
    members = from_bank.argmin(1)
    assert from_bank.min(1).max() < 1e-3
    assert len(set(members.tolist())) == len(members)
    bank = bank[members]
    pairs = cdist(patches.reshape(-1, n_components), bank).reshape(len(patches), -1, len(bank))
    maps = smooth(pairs.min(2).reshape(-1, *grid), (48, 64))
    np.testing.assert_allclose(prediction.maps, maps, rtol=1e-3)
    for image, found in enumerate(pairs):
        worst = found.min(1).argmax()
        nearest = found[worst].argmin()
        score = found[worst].min()
        if n_neighbors > 1:
            around = np.argsort(cdist(bank[[nearest]], bank)[0])[:n_neighbors]
            score *= 1 - np.exp(score) / np.exp(found[worst, around]).sum()
        np.testing.assert_allclose(prediction.scores[image], score, rtol=1e-3)


def test_the_weight_of_patchcore_survives_large_distances(images):
    detector = PatchCore("resnet18", coreset_ratio=0.2, **SMALL).fit(images[:10])
    bank = detector.model_.patches * 1e4
    patches = bank[:3] + 5e4
    distances = torch.linalg.vector_norm(patches - bank[:3], dim=1)
    around = detector.model_.around(torch.arange(3), torch.zeros(3), 9)
    weight = _weight(bank, patches, around, distances)
    assert torch.isfinite(weight).all()
    assert ((weight >= 0) & (weight <= 1)).all()


def test_the_coreset_of_patchcore_leaves_no_patch_far_away(images):
    """A greedy choice covers everything within twice the radius that any choice of as many needs."""
    dense = PatchCore("resnet18", coreset_ratio=0.3, **SMALL).fit(images[:10])
    patches = literal_patches(dense, images[:10]).reshape(-1, 384)
    radius = cdist(patches, dense.model_.patches.double().numpy()).min(1).max()
    random = np.random.default_rng(0).choice(len(patches), len(dense.model_), replace=False)
    assert radius < cdist(patches, patches[random]).min(1).max()


@pytest.mark.parametrize("n", [10, 5])
def test_mahalanobis_ad_equals_the_paper(images, n):
    detector = MahalanobisAD("resnet18", **SMALL).fit(images[:n])
    expected = np.zeros(len(images))
    for normal, unknown in zip(feature_maps(detector, images[:n]), feature_maps(detector, images), strict=True):
        vectors, others = normal.mean((2, 3)).numpy(), unknown.mean((2, 3)).numpy()
        inverse = np.linalg.inv(ledoit_wolf(vectors)[0])
        deltas = others - vectors.mean(0)
        expected += np.sqrt(np.einsum("nd,de,ne->n", deltas, inverse, deltas))
    prediction = detector.predict(images)
    assert prediction.maps is None
    np.testing.assert_allclose(prediction.scores, expected, rtol=2e-4)


def test_averages_of_bfloat16_maps_keep_the_bits_of_float32(images):
    detector = MahalanobisAD("resnet18", precision="bfloat16", cache=False, **SMALL)
    averages = detector.extract(images[:2]).maps
    for average, layer in zip(averages, feature_maps(detector, images[:2]), strict=True):
        torch.testing.assert_close(average.double(), layer.mean((2, 3), keepdim=True), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("components", ["pca", "npca"])
def test_principal_components_of_mahalanobis_ad(images, components):
    options: dict[str, Any] = {"covariance": "full(0.001)", "explained_variance": 0.8, "components": components}
    detector = MahalanobisAD("resnet18", layers=("layer2",), **options, **SMALL).fit(images[:10])
    (normal,), (unknown,) = feature_maps(detector, images[:10]), feature_maps(detector, images)
    vectors, others = normal.mean((2, 3)).numpy(), unknown.mean((2, 3)).numpy()
    variances, directions = (found[..., ::-1] for found in np.linalg.eigh(np.cov(vectors.T)))
    count = int(np.searchsorted(np.cumsum(variances) / variances.sum(), 0.8)) + 1
    chosen = slice(None, count) if components == "pca" else slice(count, None)
    along = (others - vectors.mean(0)) @ directions[:, chosen]
    expected = np.sqrt((along**2 / (variances[chosen] + 0.001)).sum(1))
    np.testing.assert_allclose(detector.predict(images).scores, expected, rtol=1e-3)


def test_the_chi2_threshold_holds_for_gaussian_features():
    """Of many samples of a Gaussian, as many exceed the threshold as it says."""
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.normal(size=(5000, 6)) @ rng.normal(size=(6, 6)))
    detector = MahalanobisAD("resnet18", threshold="chi2", layers=("layer1",), **SMALL)
    detector.made_model = (detector._gaussian(vectors[:4000]),)
    calibration = detector.calibrate(false_alarm_rate=0.1)
    scores = detector.made_model[0].squared_distances(vectors[4000:]).sqrt()
    assert 0.07 < (scores > calibration.threshold).double().mean() < 0.13


def test_a_chi2_threshold_survives_a_file(images, tmp_path):
    detector = MahalanobisAD("resnet18", threshold="chi2", **SMALL).fit(images[:10])
    detector.calibrate(false_alarm_rate=0.05)
    detector.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").threshold_ == detector.threshold_


@pytest.mark.parametrize(("kind", "options"), KINDS)
class TestEveryRelative:
    def test_a_file_scores_like_the_detector(self, kind, options, images, tmp_path):
        detector = kind("resnet18", **options, **SMALL).fit(images[:10])
        detector.calibrate(false_alarm_rate=0.2)
        detector.save(tmp_path / "model.safetensors")
        loaded = load(tmp_path / "model.safetensors")
        assert loaded.threshold_ == detector.threshold_
        one, other = detector.predict(images), loaded.predict(images)
        np.testing.assert_allclose(other.scores, one.scores, rtol=1e-5)
        if one.maps is not None:
            np.testing.assert_allclose(other.maps, one.maps, rtol=1e-4)

    def test_batches_and_order_change_nothing(self, kind, options, images):
        detector = kind("resnet18", batch_size=3, **options, **SMALL).fit(images[:10])
        other = kind("resnet18", **options, **SMALL).fit_features(detector.extract(images[:10]))
        np.testing.assert_allclose(other.predict(images).scores, detector.predict(images).scores, rtol=1e-4, atol=1e-6)

    def test_partial_fit_is_a_fit_on_all(self, kind, options, images):
        whole = kind("resnet18", **options, **SMALL).fit(images[:10])
        parts = kind("resnet18", **options, **SMALL)
        for start, stop in pairwise((0, 4, 10)):
            parts.partial_fit(images[start:stop])
        assert parts.n_images_ == 10
        np.testing.assert_allclose(parts.predict(images).scores, whole.predict(images).scores, rtol=1e-4)

    def test_a_file_can_be_continued(self, kind, options, images, tmp_path):
        whole = kind("resnet18", **options, **SMALL).fit(images[:10])
        kind("resnet18", **options, **SMALL).fit(images[:6]).save(tmp_path / "model.safetensors")
        loaded = load(tmp_path / "model.safetensors").partial_fit(images[6:10])
        assert loaded.n_images_ == 10
        # A coreset of a coreset is another choice of as many patches.
        tolerance = 0.3 if kind is PatchCore else 1e-4
        np.testing.assert_allclose(
            loaded.predict(images[10:]).scores, whole.predict(images[10:]).scores, rtol=tolerance
        )

    def test_normal_images_of_the_fit_score_below_a_foreign_one(self, kind, options, images):
        detector = kind("resnet18", **options, **SMALL).fit(images[:10])
        foreign = np.random.default_rng(1).integers(0, 256, (1, 72, 80, 3), dtype=np.uint8)
        assert detector.predict(images[:10]).scores.max() < detector.predict(foreign).scores[0]

    def test_refuses_what_it_cannot_do(self, kind, options, images):
        with pytest.raises(InputError, match="not fitted"):
            kind("resnet18", **options, **SMALL).predict(images)
        detector = kind("resnet18", **options, **SMALL).fit(images[:4])
        detector.set_params(crop=None)
        with pytest.raises(InputError, match="not fitted"):
            detector.predict(images)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (PatchCore(coreset_ratio=0), "coreset_ratio is 0: expected a number above 0"),
        (PatchCore(n_neighbors=0), "n_neighbors is 0"),
        (SPADE(n_neighbors=2.5), "n_neighbors is 2.5"),
        (MahalanobisAD(components="some"), "components is 'some': expected all or pca or npca"),
        (MahalanobisAD(covariance="diagonal"), "expected an estimator a·S"),
        (MahalanobisAD(threshold="high"), "threshold is 'high'"),
    ],
)
def test_bad_parameters_are_refused_before_any_image(detector, message):
    with pytest.raises(InputError, match=message):
        detector.fit(["there is no such file.png"])
