"""Regions of interest against literal fits and scores from which patches outside are removed, position by position."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from torch.nn.functional import avg_pool2d, interpolate

from padim_zoo import SPADE, STFPM, InputError, MahalanobisAD, PaDiM, PatchCore
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.detectors.ensemble import Ensemble
from padim_zoo.detectors.held_out import split_folds
from padim_zoo.detectors.loading import load
from padim_zoo.features.anomaly_map import anomaly_maps
from padim_zoo.registry import backbones

SMALL: dict[str, Any] = {"weights": "none", "resize": None, "crop": None, "seed": 3}
KINDS = [
    (PaDiM, {"n_components": 30}),
    (PatchCore, {"coreset_ratio": 1.0, "n_neighbors": 1}),
    (SPADE, {"n_neighbors": 3}),
    (MahalanobisAD, {}),
]
N = 9


@lru_cache
def network(kind: Any) -> Backbone:
    """The layers that a detector wants of one network for all tests: to draw its weights takes most of a small fit."""
    return backbones.create("resnet18", layers=kind.layers_wanted("resnet18"), weights="none")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noisy stripes, (12, 48, 64, 3), uint8."""
    rng = np.random.default_rng(0)
    stripes = 90 + 60 * np.sin(np.arange(64) / 3)[None, None, :, None]
    return np.clip(stripes + rng.normal(0, 25, (12, 48, 64, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def common() -> np.ndarray:
    """An ellipse that cuts cells of every layer."""
    y, x = np.mgrid[:48, :64]
    return ((y - 20) / 17) ** 2 + ((x - 30) / 21) ** 2 < 1


@pytest.fixture(scope="module")
def single(images: np.ndarray) -> np.ndarray:
    """Rectangles, another for each image; some positions count in all, some in a few, some in one, some in none."""
    masks = np.zeros((12, 48, 64), dtype=bool)
    rng = np.random.default_rng(1)
    for mask in masks:
        top, left = rng.integers(0, 18), rng.integers(0, 25)
        mask[top : top + 27, left : left + 33] = True
    return masks


@pytest.fixture(scope="module")
def folder(images: np.ndarray, single: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("roi")
    for number, (image, mask) in enumerate(zip(images, single, strict=True)):
        for kind, array in (("images", image), ("masks", mask.astype(np.uint8) * 255)):
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / kind / f"{number:02}.png")
    return root


def paths(folder: Path) -> list[Path]:
    return sorted((folder / "images").iterdir())


def cells(masks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Which cells hold any pixel that counts, (n, h, w)."""
    n, height, width = masks.shape
    counted = np.zeros((n, *grid), dtype=bool)
    for image, y, x in zip(*np.nonzero(masks), strict=True):
        counted[image, int((y + 0.5) * grid[0] / height), int((x + 0.5) * grid[1] / width)] = True
    return counted


def layers_of(detector: Any, images: np.ndarray) -> list[torch.Tensor]:
    with torch.no_grad():
        maps = detector.build_backbone()(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    return [layer.double() for layer in maps]


def smooth(distances: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Upsampled and blurred by what counts alone."""
    weights = anomaly_maps(torch.from_numpy(counted).double(), (48, 64), 4.0).numpy()
    values = anomaly_maps(torch.from_numpy(np.where(counted, distances, 0)), (48, 64), 4.0).numpy()
    return np.divide(values, weights, out=np.zeros_like(values), where=weights > 0)


def literal_padim(
    detector: PaDiM, images: np.ndarray, masks: np.ndarray, covariance: Any, n: int = N
) -> tuple[Any, Any, Any]:
    """Maps, and the pixels judged: at each position a Gaussian of the images in which it counts."""
    chosen = np.concatenate(
        [kept + start for kept, start in zip(detector.reduction_.channels, [0, 64, 192], strict=True)]
    )
    layers = layers_of(detector, images)
    finest = layers[0].shape[2:]
    embedded = torch.cat([interpolate(layer, finest) for layer in layers], 1)[:, chosen].numpy()
    counted = cells(masks, finest)
    differ = not (masks == masks[0]).all()
    distances = np.zeros((len(images), *finest))
    known = np.zeros_like(counted)
    for row, column in np.ndindex(*finest):
        of_fit = np.flatnonzero(counted[:n, row, column])
        if len(of_fit) < (2 if differ else 1):
            continue
        samples = embedded[of_fit, :, row, column]
        deltas = embedded[:, :, row, column] - samples.mean(0)
        inverse = np.linalg.inv(covariance(samples) + 0.01 * np.eye(samples.shape[1]))
        distances[:, row, column] = np.sqrt(np.einsum("nd,de,ne->n", deltas, inverse, deltas))
        known[:, row, column] = counted[:, row, column]
    maps = smooth(distances, known)
    rows, columns = ((np.arange(size) + 0.5) * cell // size for size, cell in zip((48, 64), finest, strict=True))
    roi_masks = masks & known[:, rows.astype(int)][:, :, columns.astype(int)]
    return np.where(roi_masks, maps, 0), roi_masks, known


@pytest.mark.parametrize(
    ("estimator", "n_components", "covariance"),
    [
        ("full", 30, lambda samples: np.cov(samples.T)),
        ("full", 4, lambda samples: np.cov(samples.T)),
        ("ledoit-wolf", 30, lambda samples: ledoit_wolf(samples)[0]),
        ("diagonal", 30, lambda samples: np.diag(samples.var(0, ddof=1))),
    ],
)
@pytest.mark.parametrize("kind", ["common", "single"])
def test_padim_knows_nothing_of_what_is_outside(
    images, common, single, folder, kind, estimator, n_components, covariance
):
    masks = np.repeat(common[None], 12, 0) if kind == "common" else single
    detector = PaDiM(
        network(PaDiM),
        estimator,
        n_components=n_components,
        roi=common if kind == "common" else folder / "masks",
        **SMALL,
    )
    detector.fit(images[:N] if kind == "common" else paths(folder)[:N])
    prediction = detector.predict(images if kind == "common" else paths(folder))
    maps, roi_masks, known = literal_padim(detector, images, masks, covariance)
    assert detector.gaussian_.mean.P == known.any(0).sum() < known[0].size
    np.testing.assert_array_equal(prediction.roi_masks, roi_masks)
    np.testing.assert_allclose(prediction.maps, maps, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(prediction.scores, maps.max((1, 2)), rtol=1e-3)


@pytest.mark.parametrize("kind", ["common", "single"])
def test_the_memory_of_patchcore_lacks_what_is_outside(images, common, single, folder, kind):
    masks = np.repeat(common[None], 12, 0) if kind == "common" else single
    detector = PatchCore(
        network(PatchCore),
        coreset_ratio=1.0,
        n_neighbors=1,
        roi=common if kind == "common" else folder / "masks",
        **SMALL,
    )
    detector.fit(images[:N] if kind == "common" else paths(folder)[:N])
    second, third = (avg_pool2d(layer, 3, 1, 1) for layer in layers_of(detector, images)[1:3])
    patches = torch.cat([second, interpolate(third, second.shape[2:], mode="bilinear")], 1).permute(0, 2, 3, 1).numpy()
    counted = cells(masks, second.shape[2:])
    bank = patches[:N][counted[:N]]
    assert len(detector.model_) == len(bank)
    distances = cdist(patches.reshape(-1, bank.shape[1]), bank).min(1).reshape(counted.shape)
    prediction = detector.predict(images if kind == "common" else paths(folder))
    np.testing.assert_allclose(prediction.scores, np.where(counted, distances, -1).max((1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        prediction.maps[N:], np.where(masks, smooth(distances, counted), 0)[N:], rtol=1e-3, atol=1e-4
    )
    np.testing.assert_array_equal(prediction.roi_masks, masks)


@pytest.mark.parametrize("kind", ["common", "single"])
def test_spade_compares_what_is_inside(images, common, single, folder, kind):
    masks = np.repeat(common[None], 12, 0) if kind == "common" else single
    detector = SPADE(network(SPADE), n_neighbors=3, roi=common if kind == "common" else folder / "masks", **SMALL)
    detector.fit(images[:N] if kind == "common" else paths(folder)[:N])
    prediction = detector.predict(images if kind == "common" else paths(folder))
    layers = layers_of(detector, images)
    counted = [cells(masks, layer.shape[2:]) for layer in layers]
    vectors = np.stack([layers[3][i][:, counted[3][i]].mean(1).numpy() for i in range(12)])
    pairs = cdist(vectors, vectors[:N])
    nearest = np.argsort(pairs, 1)[:, :3]
    np.testing.assert_allclose(prediction.scores, np.sort(pairs, 1)[:, :3].mean(1), rtol=1e-3, atol=1e-4)
    for image in range(N, 12):
        maps = []
        for layer, inside in zip(layers[:3], counted[:3], strict=True):
            gallery = np.concatenate([layer[i][:, inside[i]].T.numpy() for i in nearest[image]])
            distances = np.zeros(layer.shape[2:])
            distances[inside[image]] = cdist(layer[image][:, inside[image]].T.numpy(), gallery).min(1)
            maps.append(smooth(distances[None], inside[image][None])[0])
        expected = np.where(masks[image], np.mean(maps, 0), 0)
        np.testing.assert_allclose(prediction.maps[image], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["common", "single"])
def test_mahalanobis_ad_averages_what_is_inside(images, common, single, folder, kind):
    masks = np.repeat(common[None], 12, 0) if kind == "common" else single
    detector = MahalanobisAD(network(MahalanobisAD), roi=common if kind == "common" else folder / "masks", **SMALL)
    detector.fit(images[:N] if kind == "common" else paths(folder)[:N])
    expected = np.zeros(12)
    for layer in layers_of(detector, images):
        inside = cells(masks, layer.shape[2:])
        vectors = np.stack([layer[i][:, inside[i]].mean(1).numpy() for i in range(12)])
        deltas = vectors - vectors[:N].mean(0)
        inverse = np.linalg.inv(ledoit_wolf(vectors[:N])[0])
        expected += np.sqrt(np.einsum("nd,de,ne->n", deltas, inverse, deltas))
    prediction = detector.predict(images if kind == "common" else paths(folder))
    np.testing.assert_allclose(prediction.scores, expected, rtol=1e-3)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_pixels_far_outside_change_nothing(kind, options, images, common):
    """What lies beyond the reach of every patch inside may be anything."""
    small = np.zeros((48, 64), dtype=bool)
    small[4:12, 4:12] = True
    other = images.copy()
    other[:, :, 60:] = 255
    options = {**options, "layers": ("layer1",)}
    if kind is PatchCore:
        options["levels"] = 1
    one, two = (kind("resnet18", roi=small, **options, **SMALL).fit(some[:N]) for some in (images, other))
    np.testing.assert_allclose(two.predict(other).scores, one.predict(images).scores, rtol=1e-5)
    if one.makes_maps:
        prediction = two.predict(other)
        np.testing.assert_allclose(prediction.maps, one.predict(images).maps, rtol=1e-4, atol=1e-6)
        assert (prediction.maps[:, ~small] == 0).all()
        assert np.isnan(prediction.pictured[:, ~small]).all()


@pytest.mark.parametrize("which", ["common", "single"])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_files_folds_and_parts(kind, options, which, images, common, folder, tmp_path):
    roi: Any = common if which == "common" else folder / "masks"
    given: Any = images if which == "common" else paths(folder)
    detector = kind(network(kind), roi=roi, **options, **SMALL).fit(given[:N])
    expected = detector.predict(given)
    calibration = detector.calibrate(folds=3)
    for part in split_folds(N, 3, 3):
        rest = [given[i] for i in range(N) if i not in part]
        other = kind(network(kind), roi=roi, **options, **SMALL).fit(rest)
        np.testing.assert_allclose(calibration.scores[part], other.predict([given[i] for i in part]).scores, rtol=2e-3)
    detector.save(tmp_path / "model.safetensors", dtype="float32")
    loaded = load(tmp_path / "model.safetensors")
    if which == "common":
        np.testing.assert_array_equal(loaded.roi, common)
        found = loaded.predict(given)
    else:
        assert loaded.roi is None
        with pytest.warns(UserWarning, match="fitted with a mask for each image.* all pixels are scored"):
            loaded.predict(given)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = loaded.predict(given, roi=roi)
        loaded.save(tmp_path / "again.safetensors")
        with pytest.warns(UserWarning, match="a mask for each image"):
            load(tmp_path / "again.safetensors").predict(given[:1])
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
    if expected.maps is not None:
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-3, atol=1e-5)
    if kind is not PatchCore and which == "common":  # whose file lacks the images
        again = loaded.calibrate(folds=3)
        np.testing.assert_allclose(again.scores, calibration.scores, rtol=1e-3)
        np.testing.assert_allclose(
            [again.map_low or 0, again.map_high or 0], [calibration.map_low or 0, calibration.map_high or 0], rtol=1e-3
        )
    parts = kind(network(kind), roi=roi, batch_size=2, **options, **SMALL).fit(given[:5])
    parts.save(tmp_path / "part.safetensors")
    parts.partial_fit(given[5:N])
    np.testing.assert_allclose(parts.predict(given).scores, expected.scores, rtol=1e-3, atol=1e-3)
    continued = load(tmp_path / "part.safetensors")
    if kind is PaDiM and which == "single":
        with pytest.raises(InputError, match="cannot save a resumable model"):
            parts.save(tmp_path / "resumable.safetensors", resumable=True)
        with pytest.raises(InputError, match="differ in the patches that count"):
            continued.partial_fit(given[5:N])
    elif which == "common":
        continued.partial_fit(given[5:N])
        np.testing.assert_allclose(continued.predict(given).scores, expected.scores, rtol=1e-3, atol=1e-3)


def test_a_flipped_view_has_a_flipped_region(images, common):
    """Of an augmented fit with one mask, positions have samples of one view, of the other, or of both."""
    detector = PaDiM(network(PaDiM), n_components=30, roi=common, augment="flip", passes=2, **SMALL).fit(images[:N])
    views, masks = [], []
    for image in images[:N]:
        for view in detector.extractor.views.of_fit.augmentation.views(image):
            views.append(view.image(image, (0, 0, 48, 64)))
            masks.append(view.mask(common, (0, 0, 48, 64)))
    masks_of_all = np.stack([*masks, *[common] * 12])
    assert not (masks_of_all == common).all()
    every = np.concatenate([np.stack(views), images])
    maps, _, _ = literal_padim(detector, every, masks_of_all, lambda samples: np.cov(samples.T), len(views))
    np.testing.assert_allclose(detector.predict(images).maps, maps[len(views) :], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_tta_within_a_region(kind, options, images, common):
    plain = kind(network(kind), roi=common, **options, **SMALL).fit(images[:N])
    detector = kind(network(kind), roi=common, tta="flip", **options, **SMALL).fit(images[:N])
    straight, found = plain.predict(images), detector.predict(images)
    plain.roi = common[:, ::-1].copy()  # of the view; the fit stays
    mirrored = plain.predict(images[:, :, ::-1].copy())
    if found.maps is not None:
        np.testing.assert_array_equal(found.roi_masks, straight.roi_masks)
        share = mirrored.roi_masks[:, :, ::-1]
        expected = np.where(share, (straight.maps + mirrored.maps[:, :, ::-1]) / 2, straight.maps)
        expected = np.where(found.roi_masks, expected, 0)
        np.testing.assert_allclose(found.maps, expected, rtol=1e-3, atol=1e-4)
    scores = expected.max((1, 2)) if kind is PaDiM else (straight.scores + mirrored.scores) / 2
    np.testing.assert_allclose(found.scores, scores, rtol=1e-3)
    calibration = detector.calibrate(folds=3)
    for part in split_folds(N, 3, 3):
        rest = np.setdiff1d(np.arange(N), part)
        other = kind(network(kind), roi=common, tta="flip", **options, **SMALL).fit(images[rest])
        np.testing.assert_allclose(calibration.scores[part], other.predict(images[part]).scores, rtol=2e-3)


def test_a_student_learns_what_is_inside(images, common, monkeypatch):
    from padim_zoo.detectors import student
    from padim_zoo.detectors.student import matching_loss

    teacher, pupil = torch.randn(2, 5, 6, 8), torch.randn(2, 5, 6, 8)
    roi_masks = torch.from_numpy(np.stack([common, common[::-1]]))
    inside = torch.from_numpy(cells(roi_masks.numpy(), (6, 8)))
    changed = torch.where(inside[:, None], pupil, torch.randn_like(pupil))
    assert matching_loss([teacher], [pupil], roi_masks) == matching_loss([teacher], [changed], roi_masks)
    assert matching_loss([teacher], [pupil]) != matching_loss([teacher], [changed])
    unit = [layer / layer.norm(dim=1, keepdim=True) for layer in (teacher, pupil)]
    literal = (unit[0] - unit[1]).square().sum(1)[inside].mean()
    torch.testing.assert_close(matching_loss([teacher], [pupil], roi_masks), literal)

    monkeypatch.setattr(student, "LEARNED", float("inf"))  # two epochs need not teach anything
    detector = STFPM("resnet18", epochs=2, roi=common, **SMALL).fit(images[:N])
    detector.calibrate()
    prediction = detector.predict(images)
    np.testing.assert_array_equal(prediction.roi_masks, np.repeat(common[None], 12, 0))
    assert (prediction.maps[:, ~common] == 0).all()
    np.testing.assert_array_equal(prediction.scores, prediction.maps.max((1, 2)))


def test_an_ensemble_judges_what_its_members_do(images, common):
    members = [kind(network(kind), roi=common, **options, **SMALL) for kind, options in KINDS[:2]]
    ensemble = Ensemble(members).fit(images[:N])
    prediction = ensemble.predict(images)
    np.testing.assert_array_equal(prediction.roi_masks, np.repeat(common[None], 12, 0))
    assert (prediction.maps[:, ~common] == 0).all()
    other = PaDiM(network(PaDiM), n_components=30, **SMALL).fit(images[:N])
    other.calibrate()
    with pytest.raises(InputError, match="judge different pixels"):
        Ensemble([other, members[1]]).predict(images)


def test_a_region_at_prediction_alone(images, common):
    """Nothing of the model changes; what is outside has no part in a score."""
    detector = PaDiM(network(PaDiM), n_components=30, **SMALL).fit(images[:N])
    whole, part = detector.predict(images), detector.predict(images, roi=common)
    np.testing.assert_array_equal(part.roi_masks, np.repeat(common[None], 12, 0))
    assert (part.scores != whole.scores).any()
    within = PaDiM(network(PaDiM), n_components=30, roi=common, **SMALL).fit(images[:N])
    np.testing.assert_allclose(part.maps, within.predict(images).maps, rtol=1e-4, atol=1e-5)


def test_an_image_is_the_same_from_another_folder(images, folder, monkeypatch):
    monkeypatch.chdir(folder)
    relative = [path.relative_to(folder) for path in paths(folder)]
    region = RegionOfInterest(folder / "masks")
    for one, other in zip(relative, paths(folder), strict=True):
        masks = [region.mask_of(path, path.name, (48, 64)) for path in (one, other)]
        np.testing.assert_array_equal(*masks)


def test_regions_within_others_are_equal_if_these_are(common):
    whole = np.ones_like(common)
    both = RegionOfInterest.both(RegionOfInterest(common), RegionOfInterest(whole))
    assert both == RegionOfInterest.both(RegionOfInterest(common.copy()), RegionOfInterest(whole))
    assert both != RegionOfInterest(whole)
    assert both != RegionOfInterest.both(RegionOfInterest(whole), RegionOfInterest(whole))
    assert both.fingerprint() != RegionOfInterest(whole).fingerprint()


def test_masks_go_through_the_transform(images, common):
    """A mask is resized by nearest neighbor and cropped as its image."""
    detector = PaDiM(network(PaDiM), n_components=30, roi=common, weights="none", resize=40, crop=32).fit(images[:N])
    expected = detector.transform.mask(common, "nearest")
    np.testing.assert_array_equal(detector.predict(images).roi_masks[0], expected)


@pytest.mark.parametrize("estimator", ["full", "shrinkage", "oas", "spherical", "tied"])
def test_every_estimator_leaves_absent_samples_out(folder, estimator):
    """Positions at which all images count are those of a fit without masks."""
    detector = PaDiM(network(PaDiM), estimator, n_components=8, roi=folder / "masks", **SMALL).fit(paths(folder)[:N])
    plain = PaDiM(network(PaDiM), estimator, n_components=8, **SMALL).fit(paths(folder)[:N])
    masks = np.stack([np.asarray(Image.open(path)) > 0 for path in sorted((folder / "masks").iterdir())])
    everywhere = cells(masks[:N], (12, 16)).all(0).ravel()
    of_fit = np.flatnonzero(cells(masks[:N], (12, 16)).sum(0).ravel() >= 2)
    embeddings = plain.embed(plain.extract(paths(folder)))
    masked = detector.gaussian_.squared_distances(embeddings.within(detector.gaussian_.mean.subset).on_one_grid())
    assert everywhere.sum() > 3
    assert torch.isfinite(masked).all()
    if estimator == "tied":  # one covariance for all, of fewer positions
        return
    rows = np.searchsorted(of_fit, np.flatnonzero(everywhere))
    torch.testing.assert_close(
        masked[rows], plain.gaussian_.squared_distances(embeddings)[everywhere], rtol=1e-3, atol=1e-3
    )


class TestBadMasks:
    def test_none_there(self, images, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            PaDiM(network(PaDiM), roi=tmp_path / "no.png", **SMALL).fit(images)
        with pytest.raises(InputError, match="has no mask in it"):
            PaDiM(network(PaDiM), roi=tmp_path, **SMALL).fit(images)
        with pytest.raises(InputError, match="is a int: expected a mask file"):
            PaDiM(network(PaDiM), roi=3, **SMALL).fit(images)

    def test_all_black(self, images, common, tmp_path):
        with pytest.raises(InputError, match="roi is all black"):
            PaDiM(network(PaDiM), roi=common & False, **SMALL).fit(images)
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "mask.png")
        with pytest.raises(InputError, match=r"mask.png is all black"):
            RegionOfInterest(tmp_path / "mask.png")

    def test_of_another_size(self, images, common):
        with pytest.raises(InputError, match="is 47x64 but image 0 is 48x64"):
            PaDiM(network(PaDiM), roi=common[1:], **SMALL).fit(images)

    def test_nothing_left_in_the_crop(self, images):
        corner = np.zeros((48, 64), dtype=bool)
        corner[:3, :3] = True
        with pytest.raises(InputError, match="no pixel left within the crop"):
            PaDiM(network(PaDiM), roi=corner, weights="none", resize=None, crop=32).fit(images)

    def test_one_missing(self, folder, tmp_path):
        (tmp_path / "00.png").write_bytes((folder / "masks" / "00.png").read_bytes())
        with pytest.raises(InputError, match=r"01.png has no region of interest in"):
            PaDiM(network(PaDiM), roi=tmp_path, **SMALL).fit(paths(folder))

    def test_images_without_names(self, images, folder):
        with pytest.raises(InputError, match="image 0 has no file name"):
            PaDiM(network(PaDiM), roi=folder / "masks", **SMALL).fit(images)

    def test_one_mask_for_two_images(self, folder, tmp_path):
        twin = tmp_path / "other" / "00.png"
        twin.parent.mkdir()
        twin.write_bytes((folder / "images" / "00.png").read_bytes())
        with pytest.raises(InputError, match=r"matches both .* by name"):
            PaDiM(network(PaDiM), roi=folder / "masks", **SMALL).fit([paths(folder)[0], twin])

    def test_names_in_folders_and_with_a_suffix(self, folder, tmp_path):
        for name, source in (("a/00_mask.png", "00"), ("b/00.png", "01")):
            (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "masks" / name).write_bytes((folder / "masks" / f"{source}.png").read_bytes())
        region = RegionOfInterest(tmp_path / "masks")
        for name, source in (("a", "00"), ("b", "01")):
            expected = np.asarray(Image.open(folder / "masks" / f"{source}.png")) > 0
            found = region.mask_of(Path("anywhere", name, "00.jpg"), "x", (48, 64))
            np.testing.assert_array_equal(found, expected)

    def test_regions_that_do_not_overlap(self, images, tmp_path):
        for number in range(2):
            mask = np.zeros((48, 64), dtype=np.uint8)
            mask[:, 32 * number : 32 * number + 16] = 255
            (tmp_path / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
            Image.fromarray(images[number]).save(tmp_path / f"{number}.png")
        detector = PaDiM(network(PaDiM), n_components=8, roi=tmp_path / "masks", **SMALL)
        detector.fit([tmp_path / "0.png", tmp_path / "1.png"])
        with pytest.raises(InputError, match="no patch counts in 2 or more of the 2 images"):
            detector.predict([tmp_path / "0.png"])

    def test_an_image_of_which_nothing_was_seen(self, images, common):
        outside = np.zeros((48, 64), dtype=bool)
        outside[40:, 56:] = True
        detector = PaDiM(network(PaDiM), n_components=8, roi=common, **SMALL).fit(images[:N])
        with pytest.raises(InputError, match="have in common is all black"):
            detector.predict(images, roi=outside)
