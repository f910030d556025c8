"""Poses settled by contours: those of the definition, whichever side the light comes from."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import avg_pool2d

from padim_zoo.detectors.contours import AROUND, LEAST_CONTRAST, contours, in_fine_gray, settled
from padim_zoo.detectors.mean_image import FIRST_STEPS, LAST_STEPS, SIZE, MeanImage, reduced
from padim_zoo.detectors.mean_pose import mean_pose
from padim_zoo.detectors.registration import Registration, register
from padim_zoo.features.poses import inverse, multiply
from tests.benchmark_scripts import load

drawn_parts = load("drawn_parts")

SIDE = 128


def lit_pin(angle: float, x: float, y: float, seed: int) -> np.ndarray:
    """A pin with a head, lit from the upper left of the image, (SIDE, SIDE), in a pose."""
    rows, columns = np.meshgrid(*[np.arange(SIDE) + 0.5 - SIDE / 2] * 2, indexing="ij")
    columns, rows = columns - x, rows - y
    u = math.cos(angle) * columns + math.sin(angle) * rows
    v = math.cos(angle) * rows - math.sin(angle) * columns
    inside = (np.abs(u) < 42) & (np.abs(v) < np.where(u < -32, 10, 5))
    side = (0.8 * math.cos(angle) - 0.5 * -math.sin(angle)) * np.clip(v / 5, -1, 1)
    image = np.where(
        inside, 110 - 35 * side, 200 - 25 * np.roll(gaussian_filter(inside.astype(float), 2), (2, 1), (0, 1))
    )
    return gaussian_filter(image, 0.6) + np.random.default_rng(seed).normal(0, 2, image.shape)


def images(truth: np.ndarray) -> torch.Tensor:
    pins = np.stack([lit_pin(*pose, seed=number) for number, pose in enumerate(truth)])
    return torch.from_numpy(pins.clip(0, 255).astype(np.uint8))[:, None].expand(-1, 3, -1, -1)


def poses(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-math.pi, math.pi, count), *rng.uniform(-6, 6, (2, count))], 1)


@pytest.fixture(scope="module")
def learned() -> Registration:
    found, reason = register(in_fine_gray(images(poses(30, 0))), (SIDE, SIDE), "rigid", 0)
    assert found is not None, reason
    return found


def errors(estimated: torch.Tensor, truth: np.ndarray, frame: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    """Angles in degrees and shifts in pixels, up to one pose of the mean image, and that pose."""
    common = multiply(inverse(torch.from_numpy(truth).float()), estimated)
    frame = common[:1] if frame is None else frame
    off = multiply(inverse(frame).expand_as(common), common)
    return off[:, 0].abs().rad2deg(), torch.linalg.vector_norm(off[:, 1:], dim=1), frame


def test_contours_are_those_of_the_definition():
    image = np.random.default_rng(0).uniform(0, 255, (20, 24))
    reach = int(3 * AROUND)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * AROUND**2))
    kernel /= kernel.sum()

    def around(values: np.ndarray) -> np.ndarray:
        padded, result = np.pad(values, reach, mode="edge"), np.zeros_like(values)
        for row in range(values.shape[0]):
            for column in range(values.shape[1]):
                result[row, column] = (kernel * padded[row : row + len(kernel), column : column + len(kernel)]).sum()
        return result

    rest = image - around(image)
    down, across = np.gradient(rest / (np.sqrt(around(rest**2)) + LEAST_CONTRAST * image.std()))
    found = contours(torch.from_numpy(image)[None].float())[0].numpy()
    np.testing.assert_allclose(found, np.hypot(down, across), rtol=1e-3, atol=1e-3)
    assert torch.equal(contours(torch.full((1, 20, 24), 7.0)), torch.zeros(1, 20, 24))


def test_light_from_one_side_does_not_move_the_pose(learned):
    """Gray values alone are off by more than a pixel."""
    truth = poses(30, 0)
    angles, shifts, frame = errors(learned.normal, truth)
    assert angles.max() < 0.5
    assert shifts.max() < 0.5
    new = poses(12, 1)
    angles, shifts, _ = errors(learned.estimate(images(new)), new, frame)
    assert angles.max() < 0.5
    assert shifts.max() < 0.5
    small = reduced(images(truth))
    by_gray = mean_pose(small, turns=True, disc=True)[1] * torch.tensor([1, SIDE / 64, SIDE / 64])
    _, shifts, _ = errors(by_gray, truth)
    assert shifts.max() > 1


def test_the_best_candidate_is_that_of_each_alone(learned):
    """An image has the pose that it has among others, and candidates that are not tried have no part in it."""
    times = torch.tensor([1, SIDE / SIZE, SIDE / SIZE])
    fine = in_fine_gray(images(poses(6, 2)))
    right = learned.estimate(images(poses(6, 2))) / times
    turned = multiply(right, torch.tensor([[math.pi, 0.0, 0.0]]).expand_as(right))
    candidates, tried = torch.stack([turned, right], 1), torch.ones(6, 2, dtype=torch.bool)
    tried[0, 1] = False
    found, _ = settled(learned.contours, fine, candidates, tried)
    assert errors(found[1:], right[1:].numpy(), torch.zeros(1, 3))[0].max() < 0.1
    assert abs(abs(float(found[0, 0] - right[0, 0])) - math.pi) < 0.1
    coarse = replace(learned.contours, image=avg_pool2d(learned.contours.image[None], SIDE // SIZE)[0])
    for image in range(6):
        rows = slice(image, image + 1)
        one, fit = settled(learned.contours, fine[rows], candidates[rows], tried[rows])
        torch.testing.assert_close(one[0], found[image], rtol=0, atol=1e-3)
        lines = contours(fine[rows])
        pooled = avg_pool2d(lines, SIDE // SIZE)
        looks = []
        for candidate in candidates[rows][:, tried[image]].unbind(1):
            pose, first = coarse.refine(pooled, candidate, FIRST_STEPS)
            pose, second = learned.contours.refine(lines, pose * times, FIRST_STEPS)
            looks.append((float(first + second), pose))
        pose = max(looks, key=lambda look: look[0])[1] if len(looks) > 1 else candidates[rows, 0] * times
        literal = learned.contours.refine(lines, pose, LAST_STEPS)
        torch.testing.assert_close(fit, literal[1], rtol=0, atol=1e-4)
        torch.testing.assert_close(one * times, literal[0], rtol=0, atol=1e-3)


def test_parts_that_look_alike_upside_down_all_lie_one_way():
    """A mean that starts from one image alone has some of them upside down, for the light is stronger than the ring."""
    truth = drawn_parts.drawn_poses(40, 0)
    for name in ("screw, strong light", "thin pin"):
        drawn = np.stack(
            [drawn_parts.draw(drawn_parts.PARTS[name], pose, number, 256)[0] for number, pose in enumerate(truth)]
        )
        found, reason = register(in_fine_gray(torch.from_numpy(drawn)[:, None]), (256, 256), "rigid", 0)
        assert found is not None, reason
        upside_down, _, shifts = drawn_parts.errors(found.normal, truth)
        assert upside_down == 0, name
        assert shifts.mean() < 1.5, name


def test_a_mean_image_has_the_best_peak_among_its_candidates(learned):
    small = reduced(images(poses(6, 3)))
    best, _, candidates, near = learned.mean.candidates(small)
    assert near.any(1).all()
    mean = MeanImage.of(learned.mean.image, turns=True, disc=True)
    refined = torch.stack([mean.refine(small, candidates[:, k], 5)[0] for k in range(candidates.shape[1])], 1)
    assert ((refined - best[:, None]).abs().amax(2).amin(1) < 0.01).all()
