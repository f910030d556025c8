"""Images of several sizes: detectors without positions take each as it is alone, and others refuse them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from padim_zoo import SPADE, Ensemble, InputError, MahalanobisAD, PaDiM, PatchCore, Subspace
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.data.grid import canvas_of
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.p_value_maps import use_p_values
from padim_zoo.export.runtimes import ExportedModel
from tests.command_line import run

OPTIONS: dict[str, Any] = {"resize": None, "backbone": "scattering", "precision": "float32"}
DETECTORS = [(PatchCore, {"coreset_ratio": 0.2}), (Subspace, {}), (MahalanobisAD, {})]
each_detector = pytest.mark.parametrize(("kind", "own"), DETECTORS, ids=[kind.__name__ for kind, _ in DETECTORS])
SIZES = [(64, 96), (96, 64), (61, 83), (64, 96), (80, 80), (96, 96)]


class RoundingDown(nn.Module):
    """Two layers whose grids round down, as those of vgg11 and AlexNet do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)

    def forward(self, images: Tensor) -> list[Tensor]:
        first = torch.max_pool2d(torch.relu(self.first(images)), 4)
        return [first, torch.max_pool2d(torch.relu(self.second(first)), 4)]


def rounding_down(strides: tuple[int, ...] = (4, 16)) -> Backbone:
    torch.manual_seed(0)
    network, layers = RoundingDown(), ("a", "b")
    return Backbone(
        network, name="toy", layers=layers, strides=strides, state=network.state_dict(), weights_source="none"
    )


each_backbone = pytest.mark.parametrize("backbone", ["scattering", rounding_down()], ids=["scattering", "toy"])


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


@each_backbone
def test_features_are_those_of_each_image_alone(backbone: Any, normal: list[np.ndarray]) -> None:
    together = PatchCore(**OPTIONS | {"backbone": backbone}).extract(normal)
    for one, image in zip(together.apart(), normal, strict=True):
        extractor = PatchCore(**OPTIONS | {"backbone": backbone}).extractor
        assert extractor.canvas is None
        alone = extractor.extract([image])
        assert one.image_size == alone.image_size
        for layer, expected in zip(one.maps, alone.maps, strict=True):
            torch.testing.assert_close(layer, expected)


@each_backbone
def test_a_subspace_is_that_of_the_patches_of_each_image(backbone: Any, normal: list[np.ndarray]) -> None:
    options = OPTIONS | {"backbone": backbone}
    mean = Subspace(**options).fit(normal).model_.mean
    patches = [PatchCore(**options, coreset_ratio=1.0).fit([image]).model_.patches for image in normal]
    torch.testing.assert_close(mean.double(), torch.cat(patches).double().mean(0), rtol=1e-4, atol=1e-5)


@each_backbone
def test_the_bank_holds_patches_of_each_image_alone(
    backbone: Any, normal: list[np.ndarray], others: list[np.ndarray]
) -> None:
    options = OPTIONS | {"backbone": backbone}
    detector = PatchCore(**options, coreset_ratio=1.0, n_neighbors=1, sigma=0).fit(normal)
    of_each = [PatchCore(**options, coreset_ratio=1.0).fit([image]).model_.patches for image in normal]
    bank = torch.cat(of_each)
    assert detector.model_.patches.shape == bank.shape
    predicted = detector.predict(others)
    assert predicted.maps is not None
    assert predicted.maps.shape == (3, 144, 128)
    assert predicted.roi_masks is not None
    for number, image in enumerate(others):
        alone = PatchCore(**options, coreset_ratio=1.0, n_neighbors=1, sigma=0).fit([image])
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


@each_backbone
def test_scores_out_of_fold_are_those_of_each_image_alone(backbone: Any, normal: list[np.ndarray]) -> None:
    options: dict[str, Any] = OPTIONS | {"backbone": backbone, "explained_variance": 0.9}
    scores = Subspace(**options).fit(normal).calibrate(folds=len(normal)).scores
    for number, image in enumerate(normal):
        rest = Subspace(**options).fit([*normal[:number], *normal[number + 1 :]])
        np.testing.assert_allclose(scores[number], rest.predict([image]).scores[0], rtol=1e-3)


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


@each_backbone
@pytest.mark.parametrize(("first", "more"), [([5], [0]), ([0, 1], [5])], ids=["one size", "two sizes"])
def test_images_of_the_size_of_the_canvas_join(
    backbone: Any, first: list[int], more: list[int], normal: list[np.ndarray]
) -> None:
    options: dict[str, Any] = OPTIONS | {"backbone": backbone}
    earlier, later = [normal[number] for number in first], [normal[number] for number in more]
    added = Subspace(**options).fit(earlier).partial_fit(later)
    whole = Subspace(**options).fit([*earlier, *later])
    np.testing.assert_allclose(added.calibrate().scores, whole.calibrate().scores, rtol=1e-3)


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


def test_images_in_memory_come_in_every_form(normal: list[np.ndarray], others: list[np.ndarray]) -> None:
    detector, image = PatchCore(**OPTIONS).fit(normal), others[1]
    expected = detector.predict([image]).scores
    pictures = [Image.fromarray(one) for one in (image, normal[0])]
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(image)))
    turned.getexif()[274] = 6  # which is shown as the image was
    forms = [image, image[None], torch.from_numpy(image).permute(2, 0, 1), pictures[0], pictures, turned]
    for form in forms:
        np.testing.assert_allclose(detector.predict(form).scores[:1], expected, rtol=1e-3)
    fitted = PatchCore(**OPTIONS).fit([Image.fromarray(one) for one in normal])
    np.testing.assert_allclose(fitted.predict(image).scores, expected, rtol=1e-3)
    with pytest.raises(InputError, match=r"130x120 pixels .*: give files or a list of arrays"):
        detector.predict(iter([image]))


@pytest.mark.parametrize("kind", [PatchCore, Subspace])
def test_maps_of_several_sizes_are_of_no_p_values(kind: Any, normal: Any, tmp_path: Path) -> None:
    detector = kind(**OPTIONS).fit(normal)
    detector.calibrate(folds=3)
    detector.save(tmp_path / "model")
    for made in (detector, load(tmp_path / "model")):
        with pytest.raises(InputError, match="images of several sizes, which share no places"):
            use_p_values(made)
    with pytest.raises(InputError, match="images of several sizes, which share no places"):
        detector.set_params(map_values="p-value").calibrate(folds=3)
    refused = run("calibrate", tmp_path / "model", "--map-values", "p-value", "-o", tmp_path / "other", code=2)
    assert "images of several sizes, which share no places" in refused
    one_size = kind(**OPTIONS).fit([normal[0], normal[3], normal[0][::-1]])
    one_size.calibrate(folds=3)
    use_p_values(one_size)
    more = kind(**OPTIONS).fit([normal[5], normal[5]]).partial_fit(normal[:1])
    assert more.several_sizes


def test_more_images_from_a_file_make_several_sizes(normal: list[np.ndarray], tmp_path: Path) -> None:
    for detector in (PatchCore(**OPTIONS), Subspace(**OPTIONS)):
        detector.fit([normal[5], normal[5][::-1]]).save(tmp_path / "model", resumable=detector.name == "subspace")
        loaded = load(tmp_path / "model")
        assert not loaded.several_sizes
        assert loaded.partial_fit(normal[:1]).several_sizes


@pytest.mark.parametrize("kind", [PaDiM, SPADE])
def test_a_detector_of_one_grid_says_what_to_do(kind: Any, normal: list[np.ndarray]) -> None:
    with pytest.raises(
        InputError, match=r"must have one size; give a crop .*or take patchcore, subspace or mahalanobis-ad with"
    ):
        kind(**OPTIONS).fit(iter(normal))  # whose sizes are not known before


@pytest.mark.parametrize("kind", [PaDiM, SPADE])
def test_a_detector_of_one_grid_refuses_before_the_work(
    kind: Any, normal: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("images were read")

    monkeypatch.setattr("padim_zoo.detectors.feature_extractor.view_batches", refuse)
    advice = (
        "this detector needs one size: give a crop or an exact resize .* take patchcore, subspace or mahalanobis-ad"
    )
    with pytest.raises(InputError, match=f"5 sizes, e.g. 61x83 and 96x96, and {advice}"):
        kind(**OPTIONS).fit(normal)
    paths = saved(normal, tmp_path / "files")
    with pytest.raises(InputError, match=rf"5 sizes, e.g. 61x83 \({paths[0].parent}/\d.png\) and 96x96 \(.*{advice}"):
        kind(**OPTIONS).fit(paths)


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


def saved(images: list[np.ndarray], folder: Path) -> list[Path]:
    """The images as files."""
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_an_ensemble_of_two_strides_has_one_canvas(normal: Any, others: Any, tmp_path: Path) -> None:
    fine, coarse = OPTIONS | {"layers": ("scale1",)}, OPTIONS | {"backbone": rounding_down()}

    def made() -> Ensemble:
        return Ensemble([MahalanobisAD(**fine), PatchCore(**fine), Subspace(**coarse)])

    images = [image[:, :-3] for image in normal]  # so that the strides alone would give two canvases
    paths, to_score = saved(images, tmp_path / "normal"), saved(others, tmp_path / "others")
    by_images = made().fit(paths)
    predicted = by_images.predict(to_score)
    by_features = made()
    by_features.make_room(paths + to_score)
    assert {member.canvas for member in by_features.members} == {(144, 128)}
    by_features.fit_features(by_features.extract_normal(paths))
    scored = by_features.predict_features(by_features.extract(to_score))
    np.testing.assert_allclose(scored.scores, predicted.scores, rtol=1e-3)
    np.testing.assert_allclose(scored.maps, predicted.maps, rtol=1e-3, atol=1e-3)


def test_a_loaded_ensemble_has_one_canvas(normal: Any, others: Any, tmp_path: Path) -> None:
    members = [PatchCore(**OPTIONS, layers=layers) for layers in (("scale1",), ("scale3",))]
    ensemble = Ensemble(members).fit(normal)
    ensemble.calibrate()
    ensemble.save(tmp_path / "model")
    np.testing.assert_allclose(
        load(tmp_path / "model").predict(others).scores, ensemble.predict(others).scores, rtol=1e-3
    )


def test_an_ensemble_refuses_features_of_two_sizes(normal: list[np.ndarray]) -> None:
    parts = [PatchCore(**OPTIONS).extract([normal[number]]) for number in (0, 1)]
    with pytest.raises(InputError, match="64x96 pixels and 96x64 pixels: give all of them one resize"):
        Ensemble.join(parts)


def test_an_ensemble_refuses_a_region_in_other_tiles(normal: list[np.ndarray]) -> None:
    region = np.zeros((96, 96), dtype=bool)
    region[8:60] = True
    ensemble = Ensemble([PatchCore(**OPTIONS, tiles=tiles, roi=region) for tiles in ("2x2", "2x2+32")])
    with pytest.raises(InputError, match=r"with a roi, tiles.*fit and predict by images"):
        ensemble.extract_normal([normal[5], normal[5]])


def test_room_is_made_anew(normal: Any, others: Any, tmp_path: Path) -> None:
    paths, larger = saved(normal, tmp_path / "normal"), saved(others, tmp_path / "others")
    detector = PatchCore(**OPTIONS)
    detector.make_room(paths)
    assert detector.canvas == (96, 96)
    detector.make_room(larger)
    assert detector.canvas == (144, 128)
    detector.make_room(paths)
    detector.set_params(resize=(64, 64)).fit(paths)
    assert detector.canvas is None
    assert detector.image_size_ == (64, 64)
    detector = PatchCore(**OPTIONS)
    detector.make_room(paths)
    assert detector.set_params(levels=1).canvas is None


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


def test_an_export_tells_its_one_size(normal: list[np.ndarray], tmp_path: Path) -> None:
    Subspace(**OPTIONS).fit(normal).save(tmp_path / "model")
    told = run("export", tmp_path / "model", "--format", "torch", "--output", tmp_path / "file.pt2")
    assert "the file those of 96x96 only, which has room for all of the fit: for others give --input-size" in told


@pytest.mark.parametrize("kind", [PatchCore, Subspace, MahalanobisAD])
def test_an_export_is_for_the_size_that_is_asked_for(kind: Any, normal: list[np.ndarray], tmp_path: Path) -> None:
    """Of the fit, of none of it, or larger than all: scores and maps are those of such images alone."""
    kind(**OPTIONS).fit(normal).save(tmp_path / "model")
    detector = load(tmp_path / "model")
    rng = np.random.default_rng(5)
    for height, width in (normal[0].shape[:2], (70, 90), (130, 120)):
        size = f"{height}x{width}"
        told = run("export", tmp_path / "model", "--format", "torch", "-o", tmp_path / "file.pt2", "--input-size", size)
        assert "0 decisions differ" in told
        assert "the model takes images of several sizes" not in told
        images = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(3)]
        found, expected = ExportedModel(tmp_path / "file.pt2").predict(images), detector.predict(images)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3)
        if expected.maps is not None:
            np.testing.assert_allclose(found.maps, expected.maps[:, :height, :width], rtol=1e-3, atol=1e-3)
    Image.fromarray(images[0][:60]).save(tmp_path / "other.png")
    refused = run(
        *("export", tmp_path / "model", "--format", "torch", "-o", tmp_path / "file.pt2"),
        *("--images", tmp_path / "other.png"),
        code=2,
    )
    assert f"{tmp_path / 'file.pt2'} takes 96x96 pixels" in refused
