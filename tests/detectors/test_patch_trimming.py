"""Patches that go are those of a literal loop of fits, or of scikit-learn's local outlier factors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.neighbors import LocalOutlierFactor

from padim_zoo import InputError, PaDiM, PatchCore
from padim_zoo.cli.main import main
from padim_zoo.detectors.loading import load
from padim_zoo.estimators.patch_trimming import trim_samples
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.registry import estimators
from padim_zoo.statistics.masked_samples import MaskedSamples
from padim_zoo.statistics.samples import Samples
from tests.image_files import write_images

OPTIONS: dict[str, Any] = {"resize": None, "crop": None, "precision": "float32"}
DEFECT = 3


def drawn(count: int, side: int) -> np.ndarray:
    """Stripes with noise, one of them with a bad corner."""
    rng = np.random.default_rng(0)
    stripes = 110 + 40 * np.sin(np.arange(side) / 3)[None, None, :, None]
    images = np.clip(stripes + rng.normal(0, 6, (count, side, side, 3)), 0, 255).astype(np.uint8)
    images[DEFECT, : side // 4, : side // 4] = 250
    return images


IMAGES = drawn(16, 32)


def squared_distance(estimator: str, rows: torch.Tensor, row: torch.Tensor) -> float:
    """Of one sample at one patch, by a fit on others there."""
    fitted, asked = (PatchEmbeddings((part[None],), ((1, 1),), (1, 1)) for part in (rows, row[None]))
    return float(estimators.create(estimator).fit(Samples(fitted)).squared_distances(asked))


def literally(estimator: str, rows: torch.Tensor, count: int) -> list[int]:
    """Concentration steps at one patch by fits alone, (n, D) samples: those that go."""
    n = len(rows)
    stays, before = list(range(n)), []
    while stays not in before:
        before.append(stays)
        scores = [
            squared_distance(estimator, rows[[one for one in stays if one != image]], rows[image]) for image in range(n)
        ]
        stays = sorted(np.argsort(scores)[: n - count].tolist())
    return sorted(set(range(n)) - set(stays))


@pytest.mark.parametrize("D", [4, 20])
@pytest.mark.parametrize("estimator", ["full", "diagonal", "spherical", "shrinkage(0.2)", "ledoit-wolf", "oas"])
def test_samples_that_go_are_those_of_a_loop_of_fits(estimator: str, D: int) -> None:
    P, n, share = 6, 14, 0.2
    rows = torch.randn(P, n, D, generator=torch.Generator().manual_seed(D))
    rows[2, 1] += 5
    trimmed = trim_samples(Samples(PatchEmbeddings((rows,), ((2, 3),), (2, 3))), estimators.create(estimator), share)
    assert isinstance(trimmed, MaskedSamples)
    for patch in range(P):
        gone = (~trimmed.present[patch]).nonzero()[:, 0].tolist()
        assert gone == literally(estimator, rows[patch], round(share * n))
    assert not trimmed.present[2, 1]


def test_the_gaussian_of_each_patch_is_that_of_the_images_that_stay() -> None:
    detector = PaDiM(**OPTIONS, n_components=6, trim_patches=0.1).fit(IMAGES)
    assert isinstance(detector.statistics_, Samples)
    embeddings = detector.statistics_.embeddings
    rows = embeddings[slice(0, embeddings.P)]
    distances = torch.empty(embeddings.P, len(IMAGES))
    for patch in range(embeddings.P):
        gone = literally("full", rows[patch], 2)
        stay = [image for image in range(len(IMAGES)) if image not in gone]
        for image in range(len(IMAGES)):
            distances[patch, image] = squared_distance("full", rows[patch, stay], rows[patch, image])
    expected = detector.predict_distances(distances, embeddings.grid)
    np.testing.assert_allclose(detector.predict(IMAGES).maps, expected.maps, rtol=1e-3)


def test_a_bad_corner_costs_the_corner_alone() -> None:
    clean = np.delete(IMAGES, DEFECT, axis=0)
    options = {**OPTIONS, "n_components": 6, "estimator": "diagonal", "sigma": 0}
    asked = IMAGES[DEFECT][None]
    as_it_is, trimmed, never = (
        PaDiM(**options, **more).fit(images).predict(asked).maps[0, :8, :8].mean()
        for images, more in ((IMAGES, {}), (IMAGES, {"trim_patches": 1 / 16}), (clean, {}))
    )
    assert as_it_is < 0.5 * never
    assert trimmed == pytest.approx(never, rel=0.05)


def test_patches_of_low_density_leave_the_bank() -> None:
    share = 0.1
    options = {**OPTIONS, "coreset_ratio": 1.0}
    detector = PatchCore(**options, trim_patches=share).fit(IMAGES)
    whole = PatchCore(**options).fit(IMAGES)
    assert isinstance(whole.statistics_, Samples)
    (layer,) = whole.statistics_.embeddings.layers
    factors = np.stack(
        [-LocalOutlierFactor(n_neighbors=6).fit(rows).negative_outlier_factor_ for rows in layer.numpy()]
    )
    middle = np.sort(factors, axis=1)[:, (len(IMAGES) - 1) // 2, None]
    ranked = np.argsort(-np.where(factors > middle, factors, 0).ravel())
    stays = np.ones(factors.size, dtype=bool)
    stays[ranked[: round(share * factors.size)]] = False
    assert torch.equal(detector.model_.patches, whole.model_.patches[torch.from_numpy(stays)])
    corner = np.zeros(detector.statistics_.embeddings.grid, dtype=bool)
    corner[: corner.shape[0] // 8, : corner.shape[1] // 8] = True
    assert not stays.reshape(factors.shape)[corner.ravel(), DEFECT].any()
    local = PatchCore(**options, trim_patches=0.4, radius=0).fit(IMAGES).model_
    assert local.neighborhoods is not None
    assert local.neighborhoods.served.all()


@pytest.mark.parametrize(("kind", "options"), [(PaDiM, {"n_components": 6}), (PatchCore, {"coreset_ratio": 0.5})])
def test_a_file_scores_alike_and_holds_no_more(kind: Any, options: dict[str, Any], tmp_path: Path) -> None:
    detector = kind(**OPTIONS, **options, trim_patches=0.1).fit(IMAGES)
    detector.calibrate()
    detector.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict(IMAGES).scores, detector.predict(IMAGES).scores, rtol=1e-3)
    assert "for whole images" in loaded.describe_fit()["trimmed patches"]
    with pytest.raises(InputError, match="fit again"):
        loaded.partial_fit(255 - IMAGES[:2])
    network = detector.scoring_network()
    backbone = detector.build_backbone()
    batch = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        scores, _ = network(backbone(batch), batch)
    np.testing.assert_allclose(scores.numpy(), detector.predict(IMAGES).scores, rtol=1e-3)
    again = detector.set_params(trim_patches=None)
    untrimmed = kind(**OPTIONS, **options).fit(IMAGES)
    np.testing.assert_allclose(again.predict(IMAGES).scores, untrimmed.predict(IMAGES).scores, rtol=1e-5)


def test_forgetting_equals_a_fit_without() -> None:
    for kind, options in ((PaDiM, {"n_components": 6}), (PatchCore, {"coreset_ratio": 1.0})):
        detector = kind(**OPTIONS, **options, trim_patches=0.1).fit(IMAGES)
        refit = kind(**OPTIONS, **options, trim_patches=0.1).fit(IMAGES[2:])
        detector.forget(IMAGES[:2])
        np.testing.assert_allclose(detector.predict(IMAGES).scores, refit.predict(IMAGES).scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trim_patches": 0.5}, r"trim_patches is 0\.5: expected a number above 0 and below 0\.5"),
        ({"trim_patches": True}, "trim_patches is True"),
        ({"trim_patches": 0.1, "augment": "flip"}, "trim_patches excludes augment"),
        ({"trim_patches": 0.1, "estimator": "tied"}, "the estimator Tied.* does not estimate each patch by itself"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PaDiM(**OPTIONS, **options).fit(IMAGES)


def test_few_images_lose_none() -> None:
    for kind in (PaDiM, PatchCore):
        one = kind(**OPTIONS, trim_patches=0.4).fit(IMAGES[:1])
        plain = kind(**OPTIONS).fit(IMAGES[:1])
        np.testing.assert_array_equal(one.predict(IMAGES).scores, plain.predict(IMAGES).scores)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(IMAGES, tmp_path / "normal")


@pytest.mark.parametrize("kind", [PaDiM, PatchCore])
def test_one_mask_for_all_images_but_not_one_for_each(kind: Any, folder: Path, tmp_path: Path) -> None:
    mask = np.ones((32, 32), dtype=bool)
    mask[:, :9] = False
    detector = kind(**OPTIONS, trim_patches=0.1, roi=mask).fit(IMAGES)
    assert np.isfinite(detector.predict(IMAGES).scores).all()
    (tmp_path / "masks").mkdir()
    for number in range(len(IMAGES)):
        Image.fromarray((np.roll(mask, number, 1) * 255).astype(np.uint8)).save(tmp_path / f"masks/{number:02}.png")
    detector = kind(**OPTIONS, trim_patches=0.1, roi=tmp_path / "masks").fit(sorted(folder.iterdir()))
    with pytest.raises(InputError, match=r"trim_patches needs .* one mask for all"):
        detector.predict(IMAGES[:1], roi=mask)


@pytest.mark.parametrize("detector", ["padim", "patchcore"])
def test_the_command_says_what_is_promised(detector: str, folder: Path, tmp_path: Path) -> None:
    options = ["--resize", "none", "--no-cache", "--detector", detector, "--trim-patches", "0.1"]
    fitted = CliRunner().invoke(main, ["fit", str(folder), "-o", str(tmp_path / "model"), *options])
    assert fitted.exit_code == 0, fitted.output
    told = {"padim": "2 of 16 images at each patch", "patchcore": "0.1 of all before the coreset"}[detector]
    assert f"{told}; the threshold promises its rate, for whole images" in fitted.stdout


@pytest.mark.parametrize("more", [["--shard", "1/2"], ["--resumable"]])
def test_what_goes_on_from_a_file_is_not_trimmed(more: list[str], folder: Path, tmp_path: Path) -> None:
    options = ["-o", str(tmp_path / "model"), "--trim-patches", "0.1", *more]
    refused = CliRunner().invoke(main, ["fit", str(folder), *options])
    assert refused.exit_code == 2
    assert f"{more[0]} excludes --trim-patches" in refused.stderr
    assert not (tmp_path / "model").exists()
