"""What a fit looks at by default: all of each image, on a grid that the images decide and the model keeps."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from padim_zoo import Ensemble, PaDiM, PatchCore, load
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.spade import SPADE

SMALL = {"resize": 32, "n_components": 8, "precision": "float32"}


def photos(folder: Path, sizes: list[tuple[int, int]], seed: int = 0) -> list[Path]:
    """Image files of these heights and widths."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.png" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        Image.fromarray(rng.integers(90, 160, (*size, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def wide(tmp_path: Path) -> list[Path]:
    return photos(tmp_path / "wide", [(60, 80)] * 6)


def test_default_of_all_detectors_has_no_crop() -> None:
    assert (PaDiM().resize, PaDiM().crop) == (256, None)
    assert str(SPADE().transform) == "resize 256, crop none"


@pytest.mark.parametrize("resize", [None, 32, (32, 32)])
def test_the_backbone_is_made_once(resize: object) -> None:
    detector = PaDiM("resnet18", weights="none", resize=resize, crop=None, precision="float32")
    images = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    detector.extract(images)
    made = detector.extractor.in_use.backbone
    detector.extract(images)
    assert made is not None
    assert detector.extractor.in_use.backbone is made


def test_the_outer_parts_of_a_photo_are_seen(wide: list[Path]) -> None:
    painted = np.array(Image.open(wide[0]))
    painted[:, :13] = (255, 0, 0)
    painted[:, -13:] = (0, 255, 0)
    plain = np.array(Image.open(wide[0]))
    seeing = PaDiM(**SMALL).fit(wide)
    assert seeing.image_size_ == (32, 48)  # 42.7 pixels, in steps of 16
    assert seeing.predict([painted]).scores[0] > 2 * seeing.predict([plain]).scores[0]
    blind = PaDiM(**{**SMALL, "resize": 80, "crop": 64}).fit(wide)
    assert blind.image_size_ == (64, 64)


def test_the_model_keeps_the_grid(wide: list[Path], tmp_path: Path) -> None:
    detector = PaDiM(**SMALL).fit(wide)
    assert str(detector.transform) == "resize 32x48, crop none"
    tall = photos(tmp_path / "tall", [(80, 60)] * 2, seed=1)
    scores = detector.predict(tall).scores
    exact = PaDiM(**{**SMALL, "resize": (32, 48)}).fit(wide)
    np.testing.assert_array_equal(exact.predict(tall).scores, scores)
    detector.save(tmp_path / "m.safetensors", resumable=True)
    loaded = load(tmp_path / "m.safetensors")
    assert loaded.transform == detector.transform
    np.testing.assert_allclose(loaded.predict(tall).scores, scores, rtol=1e-5)
    more = loaded.partial_fit(tall)
    assert (more.image_size_, more.n_images_) == ((32, 48), 8)
    assert detector.fit(tall).image_size_ == (48, 32)  # another fit chooses anew


def test_a_fit_is_a_fit_on_features(wide: list[Path]) -> None:
    detector = PaDiM(**SMALL)
    features = detector.extract_normal(wide)
    assert features.image_size == (32, 48)
    by_features = PaDiM(**SMALL).fit_features(features)
    np.testing.assert_array_equal(by_features.predict(wide).scores, detector.fit(wide).predict(wide).scores)
    assert by_features.features_key == detector.features_key


def test_changing_a_parameter_forgets_the_grid(wide: list[Path]) -> None:
    detector = PaDiM(**SMALL).fit(wide)
    detector.set_params(resize=48)
    assert str(detector.transform) == "resize 48, crop none"
    assert detector.fit(wide).image_size_ == (48, 64)


def test_images_of_another_aspect_are_noted_once(tmp_path: Path) -> None:
    mixed = photos(tmp_path / "mixed", [(60, 80)] * 4 + [(60, 60), (90, 120)])
    with pytest.warns(UserWarning, match=r"1 of 6 images have another aspect than 32x48") as caught:
        detector = PaDiM(**SMALL).fit(mixed)
    assert len(caught) == 1
    assert detector.n_images_ == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PaDiM(**{**SMALL, "resize": (32, 48)}).fit(mixed)  # asked for


def test_grids_nest_by_default(tmp_path: Path) -> None:
    odd = photos(tmp_path / "odd", [(61, 83)] * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert PaDiM(**{**SMALL, "resize": 50}).fit(odd).image_size_ == (48, 64)


def test_of_a_data_loader_the_first_image_decides(wide: list[Path]) -> None:
    arrays = np.stack([np.asarray(Image.open(path)) for path in wide])
    loader = torch.utils.data.DataLoader(torch.from_numpy(arrays).permute(0, 3, 1, 2), batch_size=4)
    expected = PaDiM(**SMALL).fit(wide).predict(wide).scores
    for images in (arrays, loader, iter(list(arrays)), list(arrays)):
        np.testing.assert_allclose(PaDiM(**SMALL).fit(images).predict(wide).scores, expected, rtol=1e-4)


def test_models_of_different_grids_do_not_merge(wide: list[Path], tmp_path: Path) -> None:
    tall = photos(tmp_path / "tall", [(80, 60)] * 6, seed=1)
    with pytest.raises(InputError, match="transform"):
        PaDiM(**SMALL).fit(wide).merge(PaDiM(**SMALL).fit(tall))


def test_members_of_an_ensemble_share_the_coarsest_stride(wide: list[Path]) -> None:
    coarse = SPADE("resnet18", weights="none", resize=64, precision="float32")  # with its last stage, at stride 32
    fine = PaDiM("resnet18", weights="none", n_components=8, resize=64, precision="float32")
    assert fine.fit(wide).image_size_ == (64, 80)
    ensemble = Ensemble([fine, coarse]).fit(wide)
    assert {member.image_size_ for member in ensemble.members} == {(64, 96)}
    assert ensemble.predict(wide[:1]).maps.shape == (1, 64, 96)


@pytest.mark.parametrize("kind", [PaDiM, PatchCore])
def test_an_image_of_another_size_does_not_reach_the_network(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    detector = kind(resize=None, crop=None, device="cpu").fit(images)
    other = np.zeros((64, 48, 3), dtype=np.uint8)
    network = detector.build_backbone()
    monkeypatch.setattr(type(network), "forward_native_dtype", lambda *_: pytest.fail("it reached the network"))
    monkeypatch.setattr(type(network), "forward", lambda *_: pytest.fail("it reached the network"))
    with pytest.raises(InputError, match="64x48 pixels after the transform cannot be scored by a detector fitted on"):
        detector.predict(iter([other]))  # of one whose size is known before, some make a canvas
    with pytest.raises(InputError, match="64x48 pixels after the transform cannot join those of 32x32"):
        detector.partial_fit([other])
