"""Images of several sizes: detectors without positions take each as it is alone, and others refuse them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from padim_zoo import SPADE, InputError, MahalanobisAD, PaDiM, PatchCore, Subspace
from padim_zoo.data.grid import canvas_of
from padim_zoo.detectors.loading import load
from tests.command_line import run

OPTIONS: dict[str, Any] = {"resize": None, "backbone": "scattering", "precision": "float32"}
DETECTORS = [(PatchCore, {"coreset_ratio": 0.2}), (Subspace, {}), (MahalanobisAD, {})]
each_detector = pytest.mark.parametrize(("kind", "own"), DETECTORS, ids=[kind.__name__ for kind, _ in DETECTORS])
SIZES = [(64, 96), (96, 64), (61, 83), (64, 96), (80, 80), (96, 96)]


def draw(size: tuple[int, int], seed: int, *, defect: bool = False) -> np.ndarray:
    """Stripes, and a black square; (H, W, 3), uint8."""
    stripes = 90 + 60 * np.sin(np.arange(size[1]) / 3)[None, :, None]
    image = np.clip(stripes + np.random.default_rng(seed).normal(0, 20, (*size, 3)), 0, 255).astype(np.uint8)
    if defect:
        image[20:36, 24:40] = 0
    return image


@pytest.fixture(scope="module")
def normal() -> list[np.ndarray]:
    return [draw(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def others() -> list[np.ndarray]:
    """One smaller than all of the fit, one larger, one of their size; defects in the first and the second."""
    return [draw(size, 9, defect=defect) for size, defect in (((50, 60), True), ((130, 120), True), ((96, 96), False))]


@pytest.mark.parametrize(
    ("sizes", "of_fit", "canvas"),
    [
        ([(5, 7), (5, 7)], None, None),
        ([(5, 7), (9, 3)], None, (16, 8)),
        ([(5, 7), (5, 7)], (5, 7), None),
        ([(5, 7), (4, 9)], (5, 7), (8, 16)),
        ([(5, 7)], (16, 16), (16, 16)),
        ([], (5, 7), None),
    ],
)
def test_a_canvas_has_room_for_all(sizes: Any, of_fit: Any, canvas: Any) -> None:
    assert canvas_of(sizes, 8, of_fit) == canvas


def test_the_bank_holds_patches_of_each_image_alone(normal: list[np.ndarray], others: list[np.ndarray]) -> None:
    detector = PatchCore(**OPTIONS, coreset_ratio=1.0, n_neighbors=1, sigma=0).fit(normal)
    of_each = [PatchCore(**OPTIONS, coreset_ratio=1.0).fit([image]).model_.patches for image in normal]
    bank = torch.cat(of_each)
    assert detector.model_.patches.shape == bank.shape
    predicted = detector.predict(others)
    assert predicted.maps is not None
    assert predicted.maps.shape == (3, 144, 128)
    assert predicted.roi_masks is not None
    for number, image in enumerate(others):
        alone = PatchCore(**OPTIONS, coreset_ratio=1.0, n_neighbors=1, sigma=0).fit([image])
        distances = torch.cdist(alone.model_.patches, bank).amin(1)
        assert predicted.scores[number] == pytest.approx(float(distances.max()), rel=1e-4)
        height, width = image.shape[:2]
        inside = np.zeros((144, 128), dtype=bool)
        inside[:height, :width] = True
        np.testing.assert_array_equal(predicted.roi_masks[number], inside)
        assert predicted.maps[number, ~inside].max() == 0
    peak = np.unravel_index(predicted.maps[1].argmax(), (144, 128))
    assert 12 <= peak[0] < 44
    assert 16 <= peak[1] < 48


@each_detector
def test_an_image_is_scored_as_alone(kind: Any, own: Any, normal: Any, others: Any, tmp_path: Path) -> None:
    detector = kind(**OPTIONS | own).fit(normal)
    together = detector.predict(others)
    assert min(together.scores[:1]) > together.scores[2]
    alone = [detector.predict([image]).scores[0] for image in others]
    np.testing.assert_allclose(together.scores, alone, rtol=1e-4)
    detector.calibrate(folds=2)
    detector.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict(others).scores, alone, rtol=1e-4)
    one_size = kind(**OPTIONS | own).fit([normal[0], normal[3]])  # a fit of one size scores others too
    assert len(one_size.predict(others).scores) == 3


def test_regions_lie_in_the_image(normal: list[np.ndarray], others: list[np.ndarray]) -> None:
    detector = PatchCore(**OPTIONS).fit(normal)
    detector.calibrate(folds=2)
    regions = detector.predict(others).regions
    for (region, *_), image in zip(regions[:2], others, strict=False):
        left, top, width, height = region.box
        assert 0 <= left < 40 < left + width + 16 <= image.shape[1] + 16
        assert 0 <= top < 36 < top + height + 16 <= image.shape[0] + 16


def test_more_images_join_a_fit(normal: list[np.ndarray], others: list[np.ndarray]) -> None:
    added = Subspace(**OPTIONS).fit(normal[:4]).partial_fit(normal[4:5])
    whole = Subspace(**OPTIONS).fit(normal[:5])
    np.testing.assert_allclose(added.predict(others).scores, whole.predict(others).scores, rtol=1e-3)
    with pytest.raises(InputError, match="144x128"):
        added.partial_fit(others[1:2])


@pytest.mark.filterwarnings("ignore:.* leave the memory bank")
@pytest.mark.parametrize(("kind", "own"), DETECTORS[:2], ids=["PatchCore", "Subspace"])
def test_a_model_from_a_file_forgets_some(kind: Any, own: Any, normal: Any, others: Any, tmp_path: Path) -> None:
    if kind is PatchCore:
        own = {"coreset_ratio": 1.0}  # else what is left is not a coreset of the others
    kind(**OPTIONS | own).fit(normal).save(tmp_path / "model", resumable=kind is Subspace)
    left = load(tmp_path / "model").forget([normal[0], normal[2]])
    again = kind(**OPTIONS | own).fit([normal[1], *normal[3:]])
    np.testing.assert_allclose(left.predict(others).scores, again.predict(others).scores, rtol=1e-3)


@pytest.mark.parametrize("kind", [PaDiM, SPADE])
def test_a_detector_of_one_grid_says_what_to_do(kind: Any, normal: list[np.ndarray]) -> None:
    with pytest.raises(
        InputError, match=r"must have one size; give a crop .*or take patchcore, subspace or mahalanobis-ad with"
    ):
        kind(**OPTIONS).fit(normal)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tta": "flip"}, "--tta needs"),
        ({"tiles": "2x2"}, "--tiles needs"),
        ({"map_values": "p-value"}, "--map-values needs"),
        ({"radius": 1}, "radius needs"),
        ({"tta": "flip", "tiles": "2x2"}, "--tta and --tiles need"),
    ],
)
def test_options_that_take_one_size_are_named(options: dict[str, Any], named: str, normal: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match=f"5 sizes, e.g. 61x83 and 96x96, and {named} one size: leave .*--resize HxW"):
        PatchCore(**OPTIONS, **options).fit(normal)


def test_commands_take_several_sizes(normal: list[np.ndarray], others: list[np.ndarray], tmp_path: Path) -> None:
    part, model, out = tmp_path / "data/part", tmp_path / "model", tmp_path / "out"
    files = [(f"train/good/{number}.png", image) for number, image in enumerate(normal)]
    files += [("test/square/0.png", others[0]), ("test/square/1.png", others[1]), ("test/good/2.png", others[2])]
    mask = np.zeros((130, 120), dtype=np.uint8)
    mask[20:36, 24:40] = 255
    files += [("ground_truth/square/0_mask.png", mask[:50, :60]), ("ground_truth/square/1_mask.png", mask)]
    for name, image in files:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(part / name)
    options = ["--resize", "none", "--no-cache", "--quiet"]
    run("fit", part / "train/good", "-o", model, *options, "--backbone", "scattering", "--detector", "patchcore")
    run("predict", model, part / "test/square", "--maps", "original", "--output", out, "--pictures", "overlay")
    assert np.load(out / "maps/1.npy").shape == (130, 120)
    assert Image.open(out / "overlay/0.png").size[0] >= 60
    evaluated = run("evaluate", model, "--data-root", tmp_path / "data", "--quiet", "--json")
    assert '"image_auroc": 1.0' in evaluated
    bench = ["--data-root", tmp_path / "data", "--backbones", "scattering", "--output", tmp_path / "runs"]
    assert "1.000" in run("bench", *bench, "--detectors", "patchcore,subspace", "--resize", "none", "--no-cache")
    refused = run("bench", *bench, "--detectors", "padim", "--resize", "none", "--no-cache", code=1)
    assert "or take patchcore, subspace or mahalanobis-ad with --resize none" in refused
