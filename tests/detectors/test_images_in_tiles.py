"""Detectors on images in tiles: as fitted on each tile by hand, and pasted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from padim_zoo import SPADE, STFPM, InputError, MahalanobisAD, PaDiM, PatchCore, Subspace
from padim_zoo.bench.fit_cost import fit_costs
from padim_zoo.cache.caches import Caches
from padim_zoo.cache.features import FeatureCache
from padim_zoo.detectors.loading import load
from padim_zoo.export.networks import exportable
from padim_zoo.features.tiles import Tiles
from tests.blended_tiles import blend_by_hand
from tests.command_line import run

OPTIONS: dict[str, Any] = {"resize": None, "backbone": "scattering", "precision": "float32"}
TILES = ["2x2", "64+16"]
DETECTORS = [(PaDiM, {}), (PatchCore, {"coreset_ratio": 0.1}), (Subspace, {}), (SPADE, {}), (MahalanobisAD, {})]
each_detector = pytest.mark.parametrize(("kind", "own"), DETECTORS, ids=[kind.__name__ for kind, _ in DETECTORS])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Stripes that brighten to one side, (8, 128, 160, 3), uint8; the last image has a dark square."""
    rng = np.random.default_rng(0)
    stripes = 60 + np.arange(160) / 2 + 40 * np.sin(np.arange(160) / 3)
    scene = np.clip(stripes[None, None, :, None] + rng.normal(0, 15, (8, 128, 160, 3)), 0, 255).astype(np.uint8)
    scene[7, 56:72, 72:88] = 20
    return scene


def cut(images: np.ndarray, tiles: str) -> list[np.ndarray]:
    """The tiles of images in order, (n, h, w, 3) each."""
    return [images[:, rows, columns] for rows, columns in Tiles.parse(tiles).layout(images.shape[1:3]).windows]


def paste(maps: list[np.ndarray], tiles: str, image_size: tuple[int, int], stride: int) -> np.ndarray:
    layout = Tiles.parse(tiles).layout(image_size)
    patches = (layout.tile_size[0] // stride, layout.tile_size[1] // stride)
    return np.stack([blend_by_hand(of_image, layout, patches) for of_image in zip(*maps, strict=True)])


@pytest.mark.parametrize("tiles", TILES)
def test_padim_has_gaussians_for_each_place_of_a_tile(tiles: str, images: np.ndarray) -> None:
    detector = PaDiM(**OPTIONS, sigma=0, tiles=tiles).fit(images[:6])
    by_hand = [PaDiM(**OPTIONS, sigma=0).fit(part[:6]).predict(part[6:]).maps for part in cut(images, tiles)]
    predicted = detector.predict(images[6:])
    assert predicted.maps is not None
    expected = paste(by_hand, tiles, (128, 160), 4)  # type: ignore[arg-type]
    np.testing.assert_allclose(predicted.maps, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(predicted.scores, predicted.maps.max((1, 2)))
    assert np.unravel_index(predicted.maps[1].argmax(), (128, 160)) in {
        (y, x) for y in range(48, 80) for x in range(64, 96)
    }


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize(("kind", "own"), [(PatchCore, {"coreset_ratio": 1.0}), (Subspace, {})])
def test_others_have_one_model_of_all_tiles(kind: Any, own: dict[str, Any], tiles: str, images: np.ndarray) -> None:
    detector = kind(**OPTIONS | own, sigma=0, tiles=tiles).fit(images[:6])
    parts = cut(images, tiles)
    of_all = kind(**OPTIONS | own, sigma=0).fit(np.concatenate([part[:6] for part in parts]))
    expected = paste([of_all.predict(part[6:]).maps for part in parts], tiles, (128, 160), 8)
    predicted = detector.predict(images[6:])
    np.testing.assert_allclose(predicted.maps, expected, rtol=1e-3, atol=1e-2)
    if kind is PatchCore:  # the worst patch of the image is that of its worst tile
        scores = np.max([of_all.predict(part[6:]).scores for part in parts], axis=0)
        np.testing.assert_allclose(predicted.scores, scores, rtol=1e-3)


@each_detector
def test_a_file_keeps_the_tiles(kind: Any, own: dict[str, Any], images: np.ndarray, tmp_path: Path) -> None:
    detector = kind(**OPTIONS | own, tiles="2x2+16").fit(images[:6])
    detector.calibrate(folds=2)
    detector.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.tiles == "2x2+16"
    assert loaded.describe_fit()["tiles"] == "2 x 2 of 72x88 pixels, which overlap by 16 pixels"
    mine, theirs = detector.predict(images[6:]), loaded.predict(images[6:])
    np.testing.assert_allclose(theirs.scores, mine.scores, rtol=1e-3)
    assert theirs.scores[1] > theirs.scores[0]


@each_detector
def test_updates_are_one_fit(kind: Any, own: dict[str, Any], images: np.ndarray) -> None:
    detector = kind(**OPTIONS | own, tiles="64+16")
    detector.partial_fit(images[:4]).partial_fit(images[4:6])
    np.testing.assert_allclose(
        detector.predict(images[6:]).scores,
        kind(**OPTIONS | own, tiles="64+16").fit(images[:6]).predict(images[6:]).scores,
        rtol=1e-3,
    )


def test_merged_parts_are_one_fit(images: np.ndarray) -> None:
    first, second = (PaDiM(**OPTIONS, tiles="2x2").fit(part) for part in (images[:3], images[3:6]))
    merged = first.merge(second).predict(images[6:]).scores
    np.testing.assert_allclose(
        merged, PaDiM(**OPTIONS, tiles="2x2").fit(images[:6]).predict(images[6:]).scores, rtol=1e-3
    )
    with pytest.raises(InputError, match="the detectors differ in backbone, weights or tiles"):
        first.merge(PaDiM(**OPTIONS).fit(images[:3]))


@each_detector
@pytest.mark.parametrize("common", [True, False])
def test_pixels_beside_the_region_do_not_count(
    kind: Any, own: dict[str, Any], common: bool, images: np.ndarray, tmp_path: Path
) -> None:
    mask = np.ones((128, 160), dtype=bool)
    mask[40:88, 56:104] = False  # around the square, across all seams
    detector = kind(**OPTIONS | own, tiles="2x2+16", roi=mask).fit(images[:6])
    predicted = detector.predict(images[6:])
    whole = kind(**OPTIONS | own, tiles="2x2+16").fit(images[:6]).predict(images[6:])
    assert predicted.scores[1] < whole.scores[1]
    if predicted.maps is not None:
        np.testing.assert_array_equal(predicted.roi_masks, np.broadcast_to(mask, predicted.maps.shape))
    detector.calibrate(folds=2)
    detector.save(tmp_path / "model")
    np.testing.assert_allclose(load(tmp_path / "model").predict(images[6:]).scores, predicted.scores, rtol=1e-3)


@each_detector
def test_views_are_cut_after_they_are_made(kind: Any, own: dict[str, Any], images: np.ndarray) -> None:
    detector = kind(**OPTIONS | own, tiles="2x2", augment="flip", passes=2, tta="flip").fit(images[:6])
    mirrored = np.ascontiguousarray(images[6:, :, ::-1])
    one, other = detector.predict(images[6:]), detector.predict(mirrored)
    np.testing.assert_allclose(other.scores, one.scores, rtol=0.02)


def test_bands_of_tiles_change_no_score(images: np.ndarray) -> None:
    whole, bands = (PaDiM(**OPTIONS, tiles="2x2", stream=stream).fit(images[:6]) for stream in (1, 2))
    assert len(bands.extractor.plans.latest or ()) == 2
    np.testing.assert_allclose(bands.predict(images[6:]).scores, whole.predict(images[6:]).scores, rtol=1e-4)


def test_features_of_tiles_have_keys_of_their_own(images: np.ndarray, tmp_path: Path) -> None:
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.glob("*.png"))
    cache = Caches(features=FeatureCache(tmp_path / "cache"))
    for _ in range(2):  # the second time from the cache
        scores = [
            PaDiM(**OPTIONS, tiles=tiles, cache=cache).fit(paths[:6]).predict(paths[6:]).scores
            for tiles in (None, "2x2", "02x02", "64+16")
        ]
        np.testing.assert_array_equal(scores[1], scores[2])
        assert len({float(of_images[1]) for of_images in scores}) == 3
        uncached = PaDiM(**OPTIONS, tiles="64+16").fit(paths[:6]).predict(paths[6:]).scores
        np.testing.assert_allclose(scores[3], uncached, rtol=1e-4)
    assert cache.features is not None


def test_a_change_of_tiles_drops_the_fit(images: np.ndarray) -> None:
    detector = PaDiM(**OPTIONS, tiles="2x2").fit(images[:6])
    detector.set_params(tiles="64+16")
    with pytest.raises(InputError, match="not fitted"):
        detector.predict(images)


def test_a_transformer_takes_tiles_of_its_own_size(images: np.ndarray) -> None:
    pytest.importorskip("timm")
    detector = PatchCore(
        backbone="timm/vit_tiny_patch16_224", weights="none", resize=None, tiles="64+16", precision="float32"
    )
    maps = detector.fit(images[:2]).predict(images[7:]).maps
    assert maps is not None
    assert maps.shape == (1, 128, 160)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: STFPM(tiles="2x2"), "tiles is '2x2', but stfpm takes whole images: leave it out"),
        (lambda: PaDiM(tiles="2x2", register="rigid"), "register and tiles both say which pixels are looked at"),
        (lambda: PaDiM(tiles="2y2"), "tiles is '2y2', and that is not a way to cut: expected ROWSxCOLUMNS"),
        (lambda: PaDiM(tiles="512+64"), "tiles of 512 pixels cut nothing off images of 256x320 after the transform"),
    ],
)
def test_what_tiles_cannot_do(make: Any, why: str, images: np.ndarray) -> None:
    with pytest.raises(InputError, match=why):
        make().fit(images[:3])


def test_an_export_takes_whole_images(images: np.ndarray) -> None:
    with pytest.raises(InputError, match="a detector with tiles cannot be exported"):
        exportable(PaDiM(**OPTIONS, tiles="2x2").fit(images[:6]))


def test_commands_take_tiles(images: np.ndarray, tmp_path: Path) -> None:
    for number, image in enumerate(images):
        folder = tmp_path / "data" / "part" / {6: "test/good", 7: "test/square"}.get(number, "train/good")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    train = sorted(str(path) for path in (tmp_path / "data/part/train/good").iterdir())
    model, expected = tmp_path / "model", PaDiM(**OPTIONS, tiles="64+16").fit([Path(path) for path in train])
    options = ["--resize", "none", "--backbone", "scattering", "--no-cache", "--precision", "float32", "--quiet"]
    fitted = run("fit", *train[:4], "-o", str(model), *options, "--tiles", "64+016")
    assert "tiles      3 x 3 of 64x64 pixels, which overlap by 16 pixels" in fitted
    run("update", str(model), *train[4:], "--in-place")
    predicted = run("predict", str(model), str(tmp_path / "data/part/test/square/7.png"))
    score = float(predicted.split("7.png,")[1].split(",")[0])
    assert score == pytest.approx(float(expected.predict(images[7:]).scores[0]), rel=1e-3)
    evaluated = run("evaluate", str(model), "--data-root", str(tmp_path / "data"), "--quiet")
    assert "image AUROC" in evaluated
    ids = set()
    for tiles in ("none", "2x2"):
        options = ["--resize", "none", "--backbones", "scattering", "--estimators", "oas", "--no-cache", "--quiet"]
        output = tmp_path / f"runs {tiles}"
        run("bench", "--data-root", tmp_path / "data", *options, "--tiles", tiles, "--output", output)
        ids |= {path.stem for path in output.glob("*.json")}
    assert len(ids) == 2


def test_a_dry_run_knows_the_cost_of_tiles(images: np.ndarray, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    (cost, *_) = fit_costs(PaDiM(**OPTIONS, tiles="64+16"), paths, 2)
    assert cost.patches == 9 * 16 * 16
