"""Poses of parts: found by a literal search, undone in images, and maps back in the pixels of the image."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import nn

from padim_zoo import InputError, PaDiM, load
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.data.corruptions import CorruptedFile, Corruption
from padim_zoo.data.transform import Transform
from padim_zoo.detectors import choose_registration, mean_image, padim
from padim_zoo.detectors.choose_registration import held_out_log_likelihoods
from padim_zoo.detectors.contours import in_fine_gray
from padim_zoo.detectors.mean_image import MeanImage, reduced
from padim_zoo.detectors.nearest_patches import nearest_patches
from padim_zoo.detectors.registration import LARGEST_FRAME, Registration, margin_for, register
from padim_zoo.detectors.suspects import find_suspects
from padim_zoo.export.networks import exportable
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.features.poses import Poses, inverse, multiply
from tests.command_line import run

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
    return torch.from_numpy(np.require(images, requirements="W")).permute(0, 3, 1, 2)


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
    found, reason = register(in_fine_gray(pixels(images)), (SIDE, SIDE), kind, 0)
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


def test_finer_pixels_are_read_once_with_a_margin():
    """Each pixel is the mean of four bilinear readings at the places that the pose and the margin say."""
    finer = pixels(part(0.3)[None]).float()
    side, margin = SIDE // 2, 5
    pose = torch.tensor([[0.4, 3.0, -2.0]])
    found = Poses(pose, margin=margin).to_mean(finer, (side, side))[0, 0].numpy()
    assert found.shape == (side + 2 * margin,) * 2
    mirrored = np.pad(finer[0, 0].numpy(), SIDE, mode="symmetric")
    for row in range(0, side + 2 * margin, 7):
        for column in range(0, side + 2 * margin, 7):
            values = []
            for down in (0.25, 0.75):
                for right in (0.25, 0.75):
                    u, v = column - margin + right - side / 2, row - margin + down - side / 2
                    x = (math.cos(0.4) * u - math.sin(0.4) * v + 3 + side / 2) * 2 - 0.5 + SIDE
                    y = (math.sin(0.4) * u + math.cos(0.4) * v - 2 + side / 2) * 2 - 0.5 + SIDE
                    values.append(map_coordinates(mirrored, [[y], [x]], order=1)[0])
            assert found[row, column] == pytest.approx(np.mean(values), abs=0.02)


def dots(angle: float, side: int = 256) -> np.ndarray:
    """Dark dots as wide as a pixel of a quarter of the size, (side, side, 3), uint8, turned about the center."""
    rows, columns = np.meshgrid(*[np.arange(side) + 0.5 - side / 2] * 2, indexing="ij")
    u = math.cos(angle) * columns + math.sin(angle) * rows
    v = math.cos(angle) * rows - math.sin(angle) * columns
    image = np.full((side, side), 200.0)
    for number in range(16):
        x, y = 26 * (number % 4 - 1.5) + 0.7 * number, 26 * (number // 4 - 1.5) - 0.4 * number
        image -= 120 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / 8)
    return np.repeat(image.clip(0, 255).astype(np.uint8)[:, :, None], 3, 2)


@pytest.mark.parametrize("angle", [0.3, 0.8, 2.2])
def test_an_image_that_is_moved_is_as_sharp_as_one_that_is_not(angle):
    """Against the resize of the same scene upright. A resize and then bicubic interpolation err four times as much."""
    transform = Transform(resize=(64, 64), crop=None)
    upright = transform.image(dots(0.0))[:, :, 0].astype(float)
    pose = Poses(torch.tensor([[angle, 0.0, 0.0]]))
    resized, finer = (replace(transform, finer=times).image(dots(angle))[None] for times in (1, 2))
    twice = pose.to_mean(pixels(resized))[0, 0].numpy()
    once = pose.to_mean(pixels(finer), (64, 64))[0, 0].numpy()
    inner = (slice(10, 54), slice(10, 54))
    errors = [float(np.abs(each - upright)[inner].max()) for each in (once, twice)]
    contrasts = [float((each.max() - each)[inner].max()) for each in (once, upright)]
    assert contrasts[0] > 0.98 * contrasts[1]
    assert errors[0] < 0.5 * errors[1], errors


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


@pytest.mark.parametrize("times", [1, 2])
def test_what_is_not_moved_lies_within_the_margin(times):
    image = pixels(part()[None])
    still = Poses(torch.zeros(1, 3), margin=8)
    size = (SIDE // times, SIDE // times)
    framed = still.to_mean(image, size)
    assert torch.equal(framed[..., 8:-8, 8:-8], torch.nn.functional.avg_pool2d(image.float(), times))
    maps = torch.rand(1, size[0] + 16, size[1] + 16)
    assert torch.equal(still.to_image(maps), maps[:, 8:-8, 8:-8])
    assert still.seen((size[0] + 16, size[1] + 16), size).sum() == size[0] * size[1]


def test_a_map_with_a_margin_is_that_of_the_place_in_the_image():
    poses = torch.tensor([[0.4, 3.0, -2.0]])
    rows, columns = np.meshgrid(*[np.arange(SIDE + 16) + 0.5 - SIDE / 2 - 8] * 2, indexing="ij")
    ramp = torch.from_numpy(2 * columns - rows)[None].float()
    found = Poses(poses, margin=8).to_image(ramp)[0].numpy()
    for row, column in ((10, 50), (48, 20), (80, 90)):
        x, y = column + 0.5 - SIDE / 2 - 3, row + 0.5 - SIDE / 2 + 2
        u, v = math.cos(0.4) * x + math.sin(0.4) * y, math.cos(0.4) * y - math.sin(0.4) * x
        if max(abs(u), abs(v)) < SIDE / 2 + 7:
            assert found[row, column] == pytest.approx(2 * u - v, abs=0.05)


def test_margins_hold_the_corners_of_normal_images_so_far_as_they_may():
    size = (256, 320)
    for turn, shift, expected in (
        *((0.0, 0.0, 0), (0.0, 0.01, 0), (0.0, 0.99, 0), (0.0, 1.1, 8), (0.0, 8.9, 8)),
        *((0.0, 9.5, 16), (0.05, 3.0, 16), (3.0, 9.0, 16)),
    ):
        tried = torch.from_numpy(poses(40, 0, turn, shift)).float()
        tried[0] = torch.tensor([turn, shift, 0.0])
        margin = margin_for(tried, size, 16)
        needed = 0.0
        for angle, x, y in tried.tolist():
            for corner in ((-160, -128), (160, -128), (-160, 128), (160, 128)):
                u = math.cos(angle) * (corner[0] - x) + math.sin(angle) * (corner[1] - y)
                v = math.cos(angle) * (corner[1] - y) - math.sin(angle) * (corner[0] - x)
                needed = max(needed, abs(u) - 160, abs(v) - 128)
        assert margin % 8 == 0
        assert (256 + 2 * margin) * (320 + 2 * margin) <= LARGEST_FRAME * 256 * 320
        largest = (256 + 2 * (margin + 8)) * (320 + 2 * (margin + 8)) > LARGEST_FRAME * 256 * 320
        assert largest or needed - 1 <= margin < max(needed - 1, 0) + 8
        assert margin == expected
    assert margin_for(torch.tensor([[0.0, 9.0, 0.0]]), (280, 280), 14) % 7 == 0


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


def test_a_pose_that_normal_parts_have_goes_before_a_far_one_that_fits_little_better(turned):
    """Of a part that lost an end, the other end fits what is left, if turned round and moved by its length."""
    found = learned(turned, "rigid")
    reach = found.mean.reach
    largest = (found.normal[:, 1:].abs() / found.scale).max()
    assert largest < reach < found.mean.size[0] / 4
    anywhere = replace(found, mean=replace(found.mean, reach=None))
    images = pixels(np.stack([part(*pose, seed=60 + number) for number, pose in enumerate(poses(12, 7))]))
    torch.testing.assert_close(found.estimate(images), anywhere.estimate(images), atol=0.05, rtol=0)
    small = reduced(images[:4])
    surface = found.mean._surface(small)
    surface[:, 3, 0, 0] = surface.amax((1, 2, 3)) + 0.01  # fits a little better, far away

    def near_first(mean: MeanImage) -> torch.Tensor:
        object.__setattr__(mean, "_surface", lambda images: surface)
        return mean.best(small)[0][:, 1:].abs().amax(1)

    assert near_first(replace(found.mean)).max() <= reach
    # Beyond that reach a part is found all the same, where nothing else explains it.
    misplaced = pixels(np.stack([part(0.3, 20, 0, seed=70)]))
    torch.testing.assert_close(found.estimate(misplaced), anywhere.estimate(misplaced), atol=0.05, rtol=0)
    assert found.estimate(misplaced)[0, 1:].norm() > 15


def test_a_turn_that_explains_nothing_is_not_undone(shifted):
    found, reason = register(in_fine_gray(pixels(shifted)), (SIDE, SIDE), "rigid", 0)
    assert found.kind == "translation"
    assert "a turn explains no more" in reason
    assert (found.normal[:, 0] == 0).all()
    truth = torch.from_numpy(poses(24, 1, turn=0, shift=5)[:, 1:]).float()
    off = found.normal[:, 1:] - truth
    assert (off - off.mean(0)).abs().max() < 0.5


def test_images_that_fit_no_mean_stay():
    noise = np.random.default_rng(0).integers(0, 255, (20, SIDE, SIDE, 3), dtype=np.uint8)
    found, reason = register(in_fine_gray(pixels(noise)), (SIDE, SIDE), "rigid", 0)
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
    undone, p = found.undone(tried), found.normal_poses.p_values(tried.numpy())
    for index, pose in enumerate(tried[:, 1:].numpy()):
        distances = np.linalg.norm(normal - pose, axis=1)
        distance, nearest = distances.min(), normal[distances.argmin()]
        one = (1 + (gaps >= distance).sum()) / (len(gaps) + 1)
        if distance > gaps.max():
            one /= 1 + (distance - gaps.max()) / gaps.std()
        assert float(p[index]) == pytest.approx(min(1.0, 2 * one), rel=1e-3)
        expected = nearest + (pose - nearest) * min(1.0, gaps.max() / distance)
        np.testing.assert_allclose(undone[index, 1:], expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(undone[0], tried[0]) or float(p[0]) < 0.1
    assert float(undone[1, 1]) < 15


def test_only_poses_beyond_the_normal_ones_are_cut(shifted):
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
    assert torch.equal(poses.values[usual], tried[usual])
    assert (poses.values[odd] != tried[odd]).any(1).all()
    p_values = found.normal_poses.p_values(tried.numpy())
    assert p_values[odd].max() <= 2 / 25 < p_values[usual].min()


def test_a_misplaced_part_stays_found(shifted):
    plain, moving = (PaDiM(register=kind, **SMALL).fit(shifted) for kind in (None, "translation"))
    tested = np.stack([part(0, 3, -2, seed=50), part(0, 17, 0, seed=51)])
    assert moving.predict(tested).scores[1] > 2 * moving.predict(tested).scores[0]
    assert plain.predict(tested[:1]).scores[0] > 0


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


def test_a_defect_beyond_the_frame_of_the_mean_pose_is_found():
    def image(x: float, seed: int, defect: bool = False) -> np.ndarray:
        noisy = np.pad(part(0, x, 0, seed=seed), ((16, 16), (16, 16), (0, 0)), mode="edge")
        if defect:
            noisy[60:66, 1:6] = 220
        return noisy

    shifts = poses(24, 1, turn=0, shift=8)[:, 1]
    detector = PaDiM(register="translation", sigma=2, **SMALL).fit(
        np.stack([image(x, n) for n, x in enumerate(shifts)])
    )
    assert detector.registration_.margin == 8
    good, bad = detector.predict(np.stack([image(7.5, 90), image(7.5, 90, defect=True)])).maps
    assert bad[63, 3] > 2 * good[63, 3]
    assert bad[100, 100] < 1.2 * good[100, 100]


def test_large_files_are_moved_before_they_are_reduced(shifted, tmp_path):
    """What is embedded is read from pixels twice as fine, at the fit and by a model that was loaded."""
    files = []
    for number, array in enumerate(shifted):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(array).save(files[-1])
    options = {**SMALL, "resize": (48, 48), "crop": 32}
    detector = PaDiM(register="translation", **options).fit(files)
    assert detector.registration_.finer == 2
    features = detector.extract(files[:2])
    assert features.image_size == (32, 32)
    images = pixels(shifted[:2, 16:80, 16:80])
    moved = detector.registration_.poses(images).to_mean(images, (32, 32))
    expected = detector.build_backbone().eval()(moved / 255)
    for found, maps in zip(features.maps, expected, strict=True):
        np.testing.assert_allclose(found, maps, rtol=1e-3, atol=1e-3)
    detector.save(tmp_path / "model.safetensors", dtype="float32")
    again = load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(again.predict(files).maps, detector.predict(files).maps, rtol=1e-3, atol=1e-3)
    assert PaDiM(register="translation", **SMALL).fit(files).registration_.finer == 1


def test_an_image_without_finer_pixels_is_not_blurred_by_them(tmp_path):
    """An image that is hardly corrupted, or as small as the resize, scores as its file among sharp ones."""
    files = []
    for number, pose in enumerate(poses(30, 5, turn=0.3, shift=5)):
        rng = np.random.default_rng(number)
        image = np.asarray(Image.fromarray(part(*pose, seed=number)).resize((2 * SIDE,) * 2, Image.Resampling.BICUBIC))
        noise = rng.normal(0, 12, (SIDE, SIDE)).repeat(2, 0).repeat(2, 1)[..., None]
        files.append(tmp_path / f"{number}.png")
        Image.fromarray((image + noise).clip(0, 255).astype(np.uint8)).save(files[-1])
    options = {**SMALL, "resize": (SIDE, SIDE), "crop": None, "estimator": "ledoit-wolf"}
    detector = PaDiM(register="rigid", **options).fit(files[:24])
    assert detector.registration_.finer == 2
    scores = detector.predict(files[24:]).scores
    hardly = [CorruptedFile(file, Corruption("brightness", 0.001)) for file in files[24:]]
    np.testing.assert_allclose(detector.predict(hardly).scores, scores, rtol=0.03)
    transform = Transform((SIDE, SIDE), None)
    small = np.stack([transform.image(np.asarray(Image.open(file))) for file in files[24:]])
    ratios = detector.predict(small).scores / scores
    assert abs(np.median(ratios) - 1) < 0.15
    assert abs(ratios - 1).max() < 0.3


def test_an_image_whose_pixels_are_repeated_is_read_as_if_they_were_not():
    small = pixels(part(0.3)[None])
    pose = Poses(torch.tensor([[0.4, 3.0, -2.0]]), margin=5)
    repeated = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(pose.to_mean(repeated, (SIDE, SIDE)), pose.to_mean(small), rtol=0, atol=0)


def test_places_that_few_normal_images_show_are_trusted_less(turned):
    found = learned(turned, "rigid")
    trust, frame = found.trust((24, 24), (SIDE, SIDE)), SIDE + 2 * found.margin
    for row, column in ((0, 0), (2, 20), (12, 12), (23, 1)):
        shown = 0
        for angle, x, y in found.normal.tolist():
            u, v = (column + 0.5) * frame / 24 - frame / 2, (row + 0.5) * frame / 24 - frame / 2
            at = math.cos(angle) * u - math.sin(angle) * v + x, math.sin(angle) * u + math.cos(angle) * v + y
            shown += max(map(abs, at)) <= SIDE / 2
        assert float(trust[row, column]) == pytest.approx(min(1, shown / 24 / 0.5) ** 0.25, abs=1e-5)
    assert trust[12, 12] == 1
    assert trust[0, 0] < 1


def test_places_that_no_normal_image_shows_have_no_part_in_others(shifted):
    """A place beside them is not pulled down: it is worth what it is where all counts."""
    detector = PaDiM(register="translation", **SMALL).fit(shifted)
    features = detector.extract(shifted[:1])
    grid, registration = features.finest_grid, detector.registration_
    still = replace(features.poses, values=torch.zeros(1, 3), found=None)
    squared = torch.full((grid[0] * grid[1], 1), 9.0)
    trust = registration.trust(grid, (SIDE, SIDE))
    trust[:, : grid[1] // 2] = 0
    trust[:, grid[1] // 2 :] = 1
    [found] = detector.predict_distances(squared, grid, poses=still).maps
    np.testing.assert_allclose(found[:, SIDE // 2 + 2 :], 3, rtol=1e-5)
    assert found[:, :4].max() == 0


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


def test_a_command_refuses_a_roi_before_it_writes_anything(turned, tmp_path):
    PaDiM(register="rigid", **SMALL).fit(turned).save(tmp_path / "model.safetensors")
    Image.fromarray(turned[0]).save(tmp_path / "image.png")
    Image.fromarray(np.full((SIDE, SIDE), 255, dtype=np.uint8)).save(tmp_path / "mask.png")
    files = (tmp_path / "image.png", "--roi", tmp_path / "mask.png", "-o", tmp_path / "out")
    assert "a detector with register takes no roi" in run("predict", tmp_path / "model.safetensors", *files, code=2)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_is_refused_in_one_line(turned):
    with pytest.raises(InputError, match="register is 'affine': expected rigid, translation or auto"):
        PaDiM(register="affine", **SMALL).check_parameters()
    for other in ({"tta": "flip"}, {"augment": "flip"}, {"roi": np.ones((SIDE, SIDE), dtype=bool)}):
        with pytest.raises(InputError, match="leave one out"):
            PaDiM(register="rigid", **other, **SMALL).check_parameters()
    detector = PaDiM(register="rigid", **SMALL).fit(turned)
    with pytest.raises(InputError, match="a detector with register cannot be exported"):
        exportable(detector)
    mask = np.ones((SIDE, SIDE), dtype=bool)
    for look in (detector.predict, detector.extract):
        with pytest.raises(InputError, match="a detector with register takes no roi"):
            look(turned[:1], roi=mask)
    with pytest.raises(InputError, match="cannot forget images: its mean image holds them"):
        detector.forget(turned[:1])
    with pytest.raises(InputError, match="differ in registration"):
        detector.merge(PaDiM(register="rigid", **SMALL).fit(turned[:12]))
    other = PaDiM(register="rigid", **SMALL).fit(turned)
    other.extractor.facts = replace(other.extractor.facts, registration=replace(other.registration_, chance=0.5))
    with pytest.raises(InputError, match="differ in registration"):
        detector.merge(other)


def test_advice_on_the_size_names_that_of_the_images(shifted, monkeypatch):
    named: list[tuple[int, int]] = []
    images = np.pad(shifted, ((0, 0), (16, 16), (16, 16), (0, 0)), mode="edge")
    monkeypatch.setattr(padim, "advice_on_size", lambda layout, size, step: named.append(size))
    detector = PaDiM(register="translation", **SMALL).fit(images)
    assert detector.registration_.margin > 0
    assert named == [(SIDE + 32, SIDE + 32)]


# -- the choice ------------------------------------------------------------------------------------------------------


def test_few_images_of_parts_in_any_pose_are_told(turned, shifted, monkeypatch):
    detector = PaDiM(register="rigid", **SMALL).fit(turned)
    told = f"{len(turned)} images are few for parts that are turned by up to 1"
    assert any(note.startswith(told) for note in detector.notes_of_fit())
    found = learned(turned, "rigid")
    assert replace(found, normal=found.normal.repeat(3, 1)).note_on_images() == ""  # these are 72
    assert replace(found, normal=found.normal * 0.1).note_on_images() == ""  # turned by 18° at most
    assert learned(shifted, "translation").note_on_images() == ""


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


class FixedPositions(nn.Module):
    """A network of one size, as a transformer with an embedding of each position."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.positions = nn.Parameter(torch.randn(1, 16, SIDE // 8, SIDE // 8))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [torch.relu(self.patches(images) + self.positions)]


@pytest.mark.parametrize("kind", ["rigid", "auto"])
def test_a_network_of_one_size_looks_at_no_margin(turned, kind):
    network = FixedPositions()
    facts = {"name": "fixed", "layers": ("a",), "strides": (8,), "weights_source": "none"}
    backbone = Backbone(network, state=network.state_dict(), example_size=(SIDE, SIDE), **facts)
    detector = PaDiM(backbone=backbone, resize=None, n_components=8, register=kind, cache=False).fit(turned)
    registration = detector.registration_
    assert registration is not None
    assert registration.margin == 0
    assert any("the network takes no images of 1" in note for note in detector.notes_of_fit())
    assert detector.predict(turned[:2]).maps.shape == (2, SIDE, SIDE)


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
