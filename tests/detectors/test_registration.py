"""Poses of parts: found by a literal search, undone in images, and maps back in the pixels of the image."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from padim_zoo import InputError, PaDiM, load
from padim_zoo.detectors import choose_registration, mean_image
from padim_zoo.detectors.choose_registration import held_out_log_likelihoods
from padim_zoo.detectors.mean_image import MeanImage, reduced
from padim_zoo.detectors.nearest_patches import nearest_patches
from padim_zoo.detectors.registration import Registration, register
from padim_zoo.detectors.suspects import find_suspects
from padim_zoo.export.networks import exportable
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.features.poses import Poses, inverse, multiply

SIDE = 96
SMALL: dict[str, Any] = {
    **{"backbone": "resnet18", "weights": "none", "resize": None, "precision": "float32", "n_components": 12},
}


def part(angle: float = 0.0, x: float = 0.0, y: float = 0.0, seed: int = 0, defect: bool = False) -> np.ndarray:
    """A bright wedge with a hole on a dark ground, (SIDE, SIDE, 3), uint8, in a pose."""
    rows, columns = np.meshgrid(*[np.arange(SIDE) + 0.5 - SIDE / 2] * 2, indexing="ij")
    columns, rows = columns - x, rows - y
    u = math.cos(angle) * columns + math.sin(angle) * rows
    v = math.cos(angle) * rows - math.sin(angle) * columns
    shape = ((np.abs(u) < 30) & (np.abs(v) < 5 + (u + 30) / 5)).astype(float)
    shape[(u - 15) ** 2 + v**2 < 25] = 0.2
    if defect:
        shape[(u + 15) ** 2 + (v - 1) ** 2 < 16] = 0
    image = 60 + 120 * gaussian_filter(shape, 1) + np.random.default_rng(seed).normal(0, 3, shape.shape)
    return np.repeat(image.clip(0, 255).astype(np.uint8)[:, :, None], 3, 2)


def pixels(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def poses(count: int, seed: int, turn: float = math.pi, shift: float = 6.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-turn, turn, count), *rng.uniform(-shift, shift, (2, count))], 1)


@pytest.fixture(scope="module")
def turned() -> np.ndarray:
    return np.stack([part(*pose, seed=number) for number, pose in enumerate(poses(24, 0))])


@pytest.fixture(scope="module")
def shifted() -> np.ndarray:
    return np.stack([part(*pose, seed=number) for number, pose in enumerate(poses(24, 1, turn=0, shift=5))])


def learned(images: np.ndarray, kind: str) -> Registration:
    found, reason = register(reduced(pixels(images)), (SIDE, SIDE), kind, 0)
    assert found is not None, reason
    return found


# -- geometry --------------------------------------------------------------------------------------------------------


def cubic(distance: np.ndarray) -> np.ndarray:
    """The weight of a pixel in bicubic interpolation (Keys 1981, a = -0.75)."""
    a, d = -0.75, np.abs(distance)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, a * (((d - 5) * d + 8) * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def test_an_image_is_sampled_where_the_pose_says():
    image = part(0.3, 2, 1)[None]
    pose = torch.tensor([[0.4, 3.0, -2.0]])
    rows, columns = np.meshgrid(*[np.arange(SIDE) + 0.5 - SIDE / 2] * 2, indexing="ij")
    x = math.cos(0.4) * columns - math.sin(0.4) * rows + 3 + SIDE / 2 - 0.5
    y = math.sin(0.4) * columns + math.cos(0.4) * rows - 2 + SIDE / 2 - 0.5
    mirrored = np.pad(image[0, :, :, 0].astype(float), SIDE, mode="symmetric")
    literal = np.zeros((SIDE, SIDE))
    for down in range(-1, 3):
        for right in range(-1, 3):
            row, column = np.floor(y).astype(int) + down, np.floor(x).astype(int) + right
            literal += cubic(y - row) * cubic(x - column) * mirrored[row + SIDE, column + SIDE]
    inner = np.minimum(np.minimum(x, SIDE - 1 - x), np.minimum(y, SIDE - 1 - y)) > 0
    found = Poses(pose).to_mean(pixels(image))[0, 0].numpy()
    np.testing.assert_allclose(found[inner], literal[inner], atol=0.02)
    np.testing.assert_allclose(found, literal, atol=8)
    # And a map of the mean pose lies in the image where that says.
    back = Poses(pose).to_image(torch.from_numpy(literal)[None].float())[0].numpy()
    inside = (slice(30, 66), slice(30, 66))
    assert np.abs(back[inside] - image[0, :, :, 0][inside]).mean() < 4


def test_a_defect_of_few_pixels_keeps_its_contrast():
    """Of a pixel that comes to lie between four, bilinear interpolation leaves a quarter, and bicubic a third."""
    image = torch.zeros(1, 1, 33, 33)
    image[0, 0, 16, 16] = 100
    assert Poses(torch.tensor([[0.0, 0.5, 0.5]])).to_mean(image).max() > 33


def test_poses_are_a_group():
    one, other = torch.tensor([[0.4, 3.0, -2.0]]), torch.tensor([[-1.0, 0.5, 7.0]])
    np.testing.assert_allclose(multiply(one, inverse(one)), torch.zeros(1, 3), atol=1e-6)
    image = pixels(part(0.2)[None]).float()
    twice = Poses(other).to_mean(Poses(one).to_mean(image))
    inside = (..., slice(36, 60), slice(36, 60))
    assert (twice - Poses(multiply(one, other)).to_mean(image))[inside].abs().mean() < 3


def test_an_image_that_is_not_moved_stays_bit_for_bit():
    image = pixels(part()[None])
    still = Poses(torch.zeros(1, 3))
    assert torch.equal(still.to_mean(image), image.float())
    maps = torch.rand(1, SIDE, SIDE)
    assert torch.equal(still.to_image(maps), maps)


# -- search ----------------------------------------------------------------------------------------------------------


def test_correlations_are_those_of_a_literal_search(turned):
    images = reduced(pixels(turned[:2]))
    mean = MeanImage.of(reduced(pixels(part()[None]))[0], turns=True, disc=True)
    correlations, found = mean.search(images)
    half = mean_image.SIZE // 2
    small, template = (
        torch.nn.functional.interpolate(each[:, None], (half, half), mode="area")[:, 0].double().numpy()
        for each in (images, mean.image[None])
    )
    window = mean_image._window((half, half), True).double().numpy()
    rows, columns = np.meshgrid(*[np.arange(half) + 0.5 - half / 2] * 2, indexing="ij")
    margin = math.ceil(mean_image.LARGEST_SHIFT * half)
    for image in range(2):
        padded = np.pad(small[image], margin, mode="edge")
        for step in (0, 5, 20):
            angle = step * 2 * math.pi / mean_image.STEPS
            x = math.cos(angle) * columns + math.sin(angle) * rows
            y = math.cos(angle) * rows - math.sin(angle) * columns
            at = [y + half / 2 - 0.5, x + half / 2 - 0.5]
            moved = map_coordinates(template[0], at, order=1, mode="nearest")
            best = -1.0
            for dy in range(2 * margin + 1):
                for dx in range(2 * margin + 1):
                    cut = padded[dy : dy + half, dx : dx + half]
                    a, b = (each - np.average(each, weights=window) for each in (moved, cut))
                    value = (window * a * b).sum() / math.sqrt((window * a * a).sum() * (window * b * b).sum())
                    if value > best:
                        best, place = value, (dx - margin, dy - margin)
            assert float(correlations[image, step]) == pytest.approx(best, abs=2e-3)
            assert (found[image, step, 1:] / 2).tolist() == pytest.approx(place)


def test_poses_are_found_to_parts_of_a_pixel(turned):
    """Poses are known up to one of the mean image: products with their truth are all the same."""
    found = learned(turned, "rigid")
    estimated = found.estimate(pixels(turned))
    truth = torch.from_numpy(poses(24, 0)).float()
    common = multiply(inverse(truth), estimated)
    off = multiply(inverse(common[:1]).expand_as(common), common)
    assert off[:, 0].abs().median() < math.radians(0.5)
    assert off[:, 1:].abs().median() < 0.3
    assert off[:, 1:].abs().max() < 1.5
    assert found.kind == "rigid"


def test_a_turn_that_explains_nothing_is_not_undone(shifted):
    found, reason = register(reduced(pixels(shifted)), (SIDE, SIDE), "rigid", 0)
    assert found.kind == "translation"
    assert "a turn explains no more" in reason
    assert (found.normal[:, 0] == 0).all()
    truth = torch.from_numpy(poses(24, 1, turn=0, shift=5)[:, 1:]).float()
    off = found.normal[:, 1:] - truth
    assert (off - off.mean(0)).abs().max() < 0.5


def test_images_that_fit_no_mean_stay():
    noise = np.random.default_rng(0).integers(0, 255, (20, SIDE, SIDE, 3), dtype=np.uint8)
    found, reason = register(reduced(pixels(noise)), (SIDE, SIDE), "rigid", 0)
    assert found is None
    assert "no better than chance" in reason


# -- the pose as evidence --------------------------------------------------------------------------------------------


def test_p_values_and_what_is_undone_are_those_of_the_definition(shifted):
    found = learned(shifted, "translation")
    normal = found.normal[:, 1:].numpy()
    between = np.linalg.norm(normal[:, None] - normal[None], axis=2)
    np.fill_diagonal(between, np.inf)
    gaps = between.min(1)
    tried = torch.tensor([[0.0, 1.0, 1.0], [0.0, 30.0, 0.0]])
    undone, p = found.undone(tried), found.p_values(tried)
    for index, pose in enumerate(tried[:, 1:].numpy()):
        distances = np.linalg.norm(normal - pose, axis=1)
        distance, nearest = distances.min(), normal[distances.argmin()]
        one = (1 + (gaps >= distance).sum()) / (len(gaps) + 1)
        if distance > gaps.max():
            one *= math.exp(-(distance - gaps.max()) / gaps.std())
        assert float(p[index]) == pytest.approx(min(1.0, 2 * one), rel=1e-3)
        expected = nearest + (pose - nearest) * min(1.0, gaps.max() / distance)
        np.testing.assert_allclose(undone[index, 1:], expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(undone[0], tried[0]) or float(p[0]) < 0.1
    assert float(undone[1, 1]) < 15


def test_only_poses_beyond_the_normal_ones_are_evidence(shifted):
    found = learned(shifted, "translation")
    rng = torch.Generator().manual_seed(0)
    tried = found.normal[torch.arange(400) % len(found.normal)].clone()
    tried[:, 1:] += torch.randn(400, 2, generator=rng) * 3
    normal = found.normal[:, 1:].double()
    gaps = (torch.cdist(normal, normal) + 1e9 * torch.eye(len(normal))).amin(1)
    distances = torch.cdist(tried[:, 1:].double(), normal).amin(1)
    usual, odd = distances < 0.999 * gaps.max(), distances > 1.001 * gaps.max()
    assert min(int(usual.sum()), int(odd.sum())) > 40
    poses = found.of(tried)
    evidence = found.evidence(poses)
    assert evidence[usual].max() == 0
    assert evidence[odd].min() > 1
    assert torch.equal(poses.values[usual], tried[usual])


def test_a_misplaced_part_stays_found(shifted):
    plain, moving = (PaDiM(register=kind, **SMALL).fit(shifted) for kind in (None, "translation"))
    tested = np.stack([part(0, 3, -2, seed=50), part(0, 17, 0, seed=51)])
    assert moving.predict(tested).scores[1] > 2 * moving.predict(tested).scores[0]
    assert plain.predict(tested[:1]).scores[0] > 0


def test_the_pose_joins_map_and_score(shifted):
    detector = PaDiM(register="translation", **SMALL).fit(shifted)
    images = np.stack([part(0, 3, -2, seed=50), part(0, 20, 0, seed=51)])
    features = detector.extract(images)
    joined = detector.predict(images)
    alone = detector.predict_features(replace(features, poses=replace(features.poses, found=None)))
    np.testing.assert_array_equal(joined.maps[0], alone.maps[0])  # no pose that normal parts have adds anything
    p = float(detector.registration_.p_values(features.poses.found)[1])
    assert p < 0.01
    assert float(joined.scores[1]) == pytest.approx(math.sqrt(float(alone.scores[1]) ** 2 - 2 * math.log(p)))
    np.testing.assert_allclose(joined.maps[1] / joined.scores[1], alone.maps[1] / alone.scores[1], rtol=1e-5)


# -- the detector ----------------------------------------------------------------------------------------------------


def test_a_defect_is_found_where_it_is_in_the_image(turned):
    detector = PaDiM(register="rigid", sigma=2, **SMALL).fit(turned)
    assert detector.registration_.kind == "rigid"
    for pose in ((2.0, 3.0, 1.0), (-0.7, -2.0, 2.0)):
        good, bad = part(*pose, seed=90), part(*pose, seed=90, defect=True)
        difference = np.subtract(*(detector.predict(each[None]).maps[0] for each in (bad, good)))
        row, column = np.unravel_index(difference.argmax(), difference.shape)
        x = math.cos(pose[0]) * -15 - math.sin(pose[0]) * 1 + pose[1] + SIDE / 2
        y = math.sin(pose[0]) * -15 + math.cos(pose[0]) * 1 + pose[2] + SIDE / 2
        assert math.hypot(row - y, column - x) < 8


def test_the_score_is_the_highest_pixel_that_the_image_shows(turned):
    detector = PaDiM(register="rigid", **SMALL).fit(turned)
    prediction = detector.predict(turned[:5])
    np.testing.assert_array_equal(prediction.scores, prediction.maps.max((1, 2)))
    features = detector.extract(turned[:5])
    embeddings = detector.embed(features)
    squared = detector.gaussian_.squared_distances(embeddings)
    seen = features.poses.seen(embeddings.grid, (SIDE, SIDE)).flatten(1).T
    assert not seen.all()
    beyond = squared.where(seen, 1e12)  # whatever is beyond an image does not count
    again = detector.predict_distances(beyond, embeddings.grid, poses=features.poses)
    np.testing.assert_allclose(again.maps, prediction.maps, rtol=1e-5)


@pytest.mark.parametrize("n_components", [12, 60])  # the primal form, and the dual one
def test_a_file_holds_what_it_takes(turned, tmp_path, n_components):
    options = {**SMALL, "n_components": n_components}
    detector = PaDiM(register="rigid", **options).fit(turned)
    detector.calibrate()
    detector.save(tmp_path / "model.safetensors", dtype="float32")
    again = load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(again.predict(turned).maps, detector.predict(turned).maps, rtol=1e-4, atol=1e-4)
    assert again.threshold_ == detector.threshold_
    assert "turned by up to" in again.describe_fit()["register"]
    if n_components == 60:
        again.calibrate()
        np.testing.assert_allclose(again.calibration_.scores, detector.calibration_.scores, rtol=1e-3)
        again.save(tmp_path / "again.safetensors")
        assert load(tmp_path / "again.safetensors").partial_fit([part(1, seed=99)]).n_images_ == 25


def test_features_bring_the_registration_along(turned):
    source, other = (PaDiM(register="rigid", **SMALL) for _ in range(2))
    other.fit_features(source.extract_normal(turned))
    expected = PaDiM(register="rigid", **SMALL).fit(iter(list(turned))).predict(turned)
    np.testing.assert_allclose(other.predict(turned).maps, expected.maps, rtol=1e-4, atol=1e-4)


def test_a_fit_that_fails_leaves_the_registration(turned, tmp_path):
    detector = PaDiM(register="rigid", **SMALL).fit(turned)
    before = detector.registration_
    with pytest.raises(InputError):
        detector.fit([tmp_path / "nowhere.png"])
    assert detector.registration_ is before
    assert detector.set_params(register=None).registration_ is None


@pytest.mark.parametrize("n_components", [12, 60])
def test_suspects_are_scored_in_their_poses(turned, n_components):
    source, by_rest = (PaDiM(register="rigid", **{**SMALL, "n_components": n_components}) for _ in range(2))
    features = source.extract_normal(turned)
    expected = []
    for image in range(len(turned)):
        by_rest.fit_features(features.images(np.delete(np.arange(len(turned)), image)))
        expected.append(by_rest.predict_features(features.images([image])))
    found = find_suspects(source.fit_features(features))
    assert nearest_patches(source, found.maps) == {}
    np.testing.assert_allclose(found.scores, [one.scores[0] for one in expected], rtol=1e-3)
    for image, one in found.maps.items():
        np.testing.assert_allclose(one, expected[image].maps[0], rtol=1e-3, atol=1e-3)


def test_what_cannot_be_is_refused_in_one_line(turned):
    with pytest.raises(InputError, match="register is 'affine': expected rigid, translation or auto"):
        PaDiM(register="affine", **SMALL).check_parameters()
    for other in ({"tta": "flip"}, {"augment": "flip"}, {"roi": np.ones((SIDE, SIDE), dtype=bool)}):
        with pytest.raises(InputError, match="leave one out"):
            PaDiM(register="rigid", **other, **SMALL).check_parameters()
    detector = PaDiM(register="rigid", **SMALL).fit(turned)
    with pytest.raises(InputError, match="a detector with register cannot be exported"):
        exportable(detector)
    with pytest.raises(InputError, match="cannot forget images: its mean image holds them"):
        detector.forget(turned[:1])
    with pytest.raises(InputError, match="differ in registration"):
        detector.merge(PaDiM(register="rigid", **SMALL).fit(turned[:12]))


# -- the choice ------------------------------------------------------------------------------------------------------


def test_auto_undoes_what_makes_normal_images_likelier(turned, shifted):
    assert PaDiM(register="auto", **SMALL).fit(turned).registration_.kind == "rigid"
    assert PaDiM(register="auto", **SMALL).fit(shifted).registration_.kind == "translation"
    rng = np.random.default_rng(3)
    texture = gaussian_filter(rng.normal(size=(24, SIDE, SIDE, 1)), (0, 2, 2, 0)) * 200 + 120
    detector = PaDiM(register="auto", **SMALL)
    detector.fit(np.repeat(texture.clip(0, 255).astype(np.uint8), 3, 3))
    assert detector.registration_ is None
    assert any("they stay" in note for note in detector.notes_of_fit())


def test_auto_compares_a_motion_once(shifted, monkeypatch):
    """Rigid without turns is the translation, whose images pass through the backbone once."""
    compared = []

    def likelihoods(embeddings):
        compared.append(embeddings.n)
        return held_out_log_likelihoods(embeddings)

    monkeypatch.setattr(choose_registration, "held_out_log_likelihoods", likelihoods)
    assert PaDiM(register="auto", **SMALL).fit(shifted).registration_.kind == "translation"
    assert compared == [24, 24]


def test_held_out_likelihoods_are_those_of_the_definition():
    maps = torch.randn(10, 3, 2, 4)
    found = held_out_log_likelihoods(PatchEmbeddings.of(Features((maps,), (8, 16))))
    samples = maps.flatten(2).permute(2, 0, 1).double().numpy()
    for image in range(10):
        rest = np.arange(10) % 4 != image % 4
        values = []
        for patch in samples:
            covariance = np.cov(patch[rest].T) + 0.01 * np.eye(3)
            delta = patch[image] - patch[rest].mean(0)
            values.append(-0.5 * (delta @ np.linalg.solve(covariance, delta) + np.linalg.slogdet(covariance)[1]))
        assert float(found[image]) == pytest.approx(np.mean(values), rel=1e-6)
