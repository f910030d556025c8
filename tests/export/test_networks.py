"""Networks to export against the detectors that they are made of, near the normal images and far away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from padim_zoo import SPADE, InputError, MahalanobisAD, PaDiM, PatchCore, Subspace
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.stfpm import STFPM
from padim_zoo.estimators.linear_shrinkage import Full, LedoitWolf
from padim_zoo.export.distances import DualDistances, FactorDistances, NestedDistances, TiedDistances, distances_of
from padim_zoo.export.networks import exportable
from padim_zoo.features.features import nearest_positions
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.dual import DualGaussian
from padim_zoo.gaussians.gaussian import PrimalGaussian
from padim_zoo.gaussians.grid_hierarchy import levels
from padim_zoo.gaussians.nested import NestedGaussian, SampledGaussian
from padim_zoo.statistics.samples import Samples
from tests.export.conftest import SMALL


def compare(detector: Detector, images: np.ndarray, tolerance: float = 2e-5) -> torch.nn.Module:
    """Hold the network of a detector to it, scores relative, maps relative to their largest values."""
    expected = detector.predict(images)
    network = exportable(detector)
    pixels = np.stack([detector.transform.image(image) for image in images])
    with torch.no_grad():
        found = network(torch.from_numpy(pixels))
    np.testing.assert_allclose(found["scores"].numpy(), expected.scores, rtol=tolerance, atol=1e-6)
    if expected.maps is not None:
        for one, other in zip(found["maps"].numpy(), expected.maps, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * other.max() + 1e-6)
    if expected.anomalous is not None:
        assert found["anomalous"].tolist() == expected.anomalous.tolist()
    return network


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({"n_components": 8}, NestedDistances),  # primal
        ({"n_components": 14}, NestedDistances),  # dual
        ({"n_components": 100}, DualDistances),
        ({"n_components": 100, "crop": 60}, DualDistances),  # grids that do not divide one another
        ({"n_components": 8, "estimator": "ledoit-wolf"}, FactorDistances),
        ({"n_components": 14, "estimator": "oas"}, FactorDistances),
        ({"n_components": 100, "estimator": "shrinkage(1.0)"}, DualDistances),
        ({"n_components": 100, "estimator": "full(epsilon=1e-05)"}, DualDistances),
        ({"n_components": 8, "estimator": "tied"}, FactorDistances),
        ({"n_components": 8, "estimator": "tied(cells=3)"}, TiedDistances),
        ({"n_components": 20, "reduction": "orthogonal"}, FactorDistances),
    ],
)
def test_padim(images: np.ndarray, options: dict[str, Any], form: type) -> None:
    detector = PaDiM(**{"reduction": "random", **SMALL, **options}).fit(images[:12])
    assert type(compare(detector, images).scoring.distances.form) is form


@pytest.mark.parametrize("estimator", ["diagonal", "spherical"])
def test_padim_with_fewer_parameters(images: np.ndarray, estimator: str) -> None:
    compare(PaDiM(n_components=20, estimator=estimator, **SMALL).fit(images[:12]), images)


def test_decisions_are_the_thresholds(images: np.ndarray) -> None:
    detector = PaDiM(n_components=12, **SMALL).fit(images[:12])
    assert "anomalous" not in compare(detector, images)(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    detector.calibrate(false_alarm_rate=0.2)
    compare(detector, images)
    assert set(detector.predict(images).anomalous) == {True, False}


def test_resize_and_crop_within_the_network(images: np.ndarray) -> None:
    detector = PaDiM(n_components=12, **SMALL).fit(images[:12])
    with torch.no_grad():
        found = exportable(detector, size=(80, 80))(torch.from_numpy(images))
    np.testing.assert_allclose(found["scores"].numpy(), detector.predict(images).scores, rtol=1e-5)


@pytest.mark.parametrize(
    "detector",
    [
        PatchCore(coreset_ratio=0.3, n_neighbors=4, **SMALL),
        PatchCore(coreset_ratio=1.0, n_neighbors=1, **SMALL),
        PatchCore(coreset_ratio=0.3, radius=0, **SMALL),
        PatchCore(coreset_ratio=0.2, n_neighbors=4, radius=2, **SMALL),
        MahalanobisAD(**SMALL),
        MahalanobisAD(components="npca", **SMALL),
        STFPM(epochs=2, **SMALL),
        Subspace(**SMALL),
        Subspace(explained_variance=0.6, score="max", **SMALL),
        PatchCore(score="mean(0.02)", **SMALL),
        PaDiM(n_components=8, score="mean(0.02)", estimator="pooled", **SMALL),
    ],
    ids=[
        *("patchcore", "whole memory", "radius 0", "radius 2", "mahalanobis-ad", "npca", "stfpm"),
        *("subspace", "leading directions", "mean of a map", "pooled"),
    ],
)
def test_relatives(images: np.ndarray, detector: Detector) -> None:
    # Scores of the images of a fit can be zero, to which nothing is relative.
    compare(detector.fit(images[:10]), images[10:])


def test_others_are_refused_in_one_line(images: np.ndarray) -> None:
    with pytest.raises(InputError, match="a detector spade cannot be exported: it gives no scoring network"):
        exportable(SPADE(**SMALL).fit(images[:4]))
    with pytest.raises(InputError, match="not fitted"):
        exportable(PaDiM(**SMALL))
    with pytest.raises(InputError, match="with tta cannot be exported"):
        exportable(PaDiM(tta="flip", **SMALL).fit(images[:4]))


# -- distances ---------------------------------------------------------------------------------------------------------


def embeddings(n: int, grids: list[tuple[int, int]], channels: list[int]) -> PatchEmbeddings:
    """Correlated and far from zero, as features are."""
    generator = torch.Generator().manual_seed(1)
    layers = tuple(
        torch.randn(h * w, n, c, generator=generator) @ torch.randn(c, c, generator=generator) / c**0.5 + 3
        for (h, w), c in zip(grids, channels, strict=True)
    )
    return PatchEmbeddings(layers, tuple(grids), grids[0])


def literal(normal: PatchEmbeddings, unknown: PatchEmbeddings) -> np.ndarray:
    """Squared distances (P, N) by the definition, in float64: Σ = S + 0.01·I."""
    found = []
    for x, y in zip(normal[:].double().numpy(), unknown[:].double().numpy(), strict=True):
        delta = y - x.mean(0)
        covariance = np.cov(x.T) + 0.01 * np.eye(x.shape[1])
        found.append((delta @ np.linalg.inv(covariance) * delta).sum(1))
    return np.stack(found)


@pytest.mark.parametrize("n", [6, 40])
@pytest.mark.parametrize(
    ("grids", "nested"),
    [([(8, 6), (4, 3), (2, 3)], True), ([(7, 7), (4, 4), (2, 2)], True), ([(6, 6), (4, 4), (3, 3)], False)],
)
def test_nested_factors_are_exact(n: int, grids: list[tuple[int, int]], nested: bool) -> None:
    channels = [2, 3, 5]
    normal, unknown = embeddings(n, grids, channels), embeddings(4, grids, channels)
    both = PatchEmbeddings.concatenate([unknown, normal.images(np.arange(2))])
    gaussian = Full().fit(Samples(normal))
    few = (DualGaussian, SampledGaussian)
    assert isinstance(gaussian, few if n < 10 else NestedGaussian if nested else PrimalGaussian)
    module = distances_of(gaussian)
    assert bool(levels(gaussian.mean.layout)) is nested
    if n > 10:
        assert type(module) is (NestedDistances if nested else FactorDistances)
    found = module(list((both - gaussian.mean).layers))
    np.testing.assert_allclose(found.numpy(), literal(normal, both), rtol=2e-4)


def numbers_of(module: torch.nn.Module) -> int:
    """How many numbers a module holds, and reads for an image."""
    return sum(buffer.numel() for buffer in module.buffers() if buffer.is_floating_point())


def test_nested_factors_are_fewer_numbers() -> None:
    gaussian = Full().fit(Samples(embeddings(40, [(8, 8), (4, 4), (2, 2)], [4, 8, 16])))
    module = distances_of(gaussian)
    assert isinstance(module, NestedDistances)
    assert numbers_of(module) == 64 * 28 * 4 + 16 * 24 * 8 + 4 * 16 * 16
    other = LedoitWolf().fit(Samples(embeddings(40, [(8, 8), (4, 4), (2, 2)], [4, 8, 16])))
    assert numbers_of(distances_of(other)) == 64 * 28 * 28 * 3 // 4


def test_dual_form_keeps_its_digits_at_the_samples_themselves() -> None:
    """The difference of norms keeps none there in float32."""
    grids, channels = [(6, 6), (3, 3)], [30, 60]
    normal = embeddings(8, grids, channels)
    gaussian = Full().fit(Samples(normal))
    assert isinstance(gaussian, DualGaussian)
    found = DualDistances(gaussian)(list((normal - gaussian.mean).layers)).numpy()
    expected = literal(normal, normal)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    deviations = normal - gaussian.mean
    products = deviations.inner_products(gaussian.samples, slice(0, 36), torch.float32)
    difference = deviations.squared_norms(slice(0, 36), torch.float32) - gaussian.whitener.squared_norms(
        products, slice(0, 36)
    )
    cancelled = (difference / gaussian.b[:, None]).numpy()
    assert np.abs(cancelled / expected - 1).max() > 10 * np.abs(found / expected - 1).max()


def test_positions_of_levels_follow_nearest_upsampling() -> None:
    mean = embeddings(1, [(8, 6), (4, 3)], [1, 1])
    coarse, fine = levels(mean.layout)
    assert torch.equal(coarse.patches, nearest_positions((4, 3), (8, 6)))
    assert torch.equal(coarse.patches[coarse.first], torch.arange(12))
    assert fine.dims.tolist() == [1, 0]
