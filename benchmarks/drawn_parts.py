"""Drawn screws and pins in any pose, under lamps that stay where they are: their images, or how well poses are found.

python benchmarks/drawn_parts.py write screws/lit --light 2 --train 80 --good 20 --defects 15
python benchmarks/drawn_parts.py poses --images 40
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from script_options import LEAST_SIDE, Parser, above, whole

from padim_zoo.detectors.contours import in_fine_gray
from padim_zoo.detectors.registration import register
from padim_zoo.features.poses import inverse, multiply

KINDS = ("head", "neck", "thread", "tip")
LAMP = (-0.6, -0.8)  # right and down, in the image


@dataclass(frozen=True)
class Part:
    """A screw, or a pin of a radius with a ring near one end; pixels are those of an image of 256."""

    light: float
    pin: float | None = None


PARTS = {
    "screw": Part(1),
    "screw, strong light": Part(2),
    "pin": Part(1, 4),
    "pin, strong light": Part(1.6, 4),
    "thin pin": Part(1, 2.5),
    "thin pin, strong light": Part(1.6, 2.5),
    "thin pin, stronger light": Part(2.5, 2.5),
}


def draw(part: Part, pose: np.ndarray, seed: int, side: int, defect: str = "") -> tuple[np.ndarray, np.ndarray]:
    """An image (side, side), uint8, and the mask of its defect; the pose is in pixels of an image of 256."""
    rng, scale = np.random.default_rng(seed), side / 256
    rows, columns = np.meshgrid(*[(np.arange(side) + 0.5) / scale - 128] * 2, indexing="ij")
    cos, sin = math.cos(pose[0]), math.sin(pose[0])
    x, y = columns - pose[1], rows - pose[2]
    u, v = cos * x + sin * y, cos * y - sin * x
    radius, ridges = outline(part, u, v, phase=rng.uniform())
    mask, mark = np.zeros_like(u, bool), np.zeros_like(u)
    if defect in ("head", "neck"):  # a scratch
        middle = (rng.uniform(-80, -64), rng.uniform(-14, 14)) if defect == "head" else (rng.uniform(-50, -30), 0)
        turn = rng.uniform(0, math.pi)
        a = math.cos(turn) * (u - middle[0]) + math.sin(turn) * (v - middle[1])
        b = math.cos(turn) * (v - middle[1]) - math.sin(turn) * (u - middle[0])
        mask = (np.abs(a) < rng.uniform(3, 6)) & (np.abs(b) < rng.uniform(0.7, 1.4)) & (np.abs(v) < radius)
        mark[mask] = rng.choice([-1, 1]) * rng.uniform(35, 70)
    elif defect == "thread":  # pressed flat
        flat = (np.abs(u - rng.uniform(-15, 60)) < rng.uniform(3, 5)) & (v * rng.choice([-1, 1]) > 8)
        mask = flat & (np.abs(v) < radius)
        radius = np.where(flat, np.minimum(radius, rng.uniform(9, 11)), radius)
    elif defect == "tip":  # cut off
        end = u > rng.uniform(74, 79)
        mask = end & (np.abs(v) < radius)
        radius = np.where(end, 0, radius)
    inside = np.abs(v) < radius
    across = np.clip(v / np.maximum(radius, 1e-3), -1, 1)
    towards = cos * LAMP[1] - sin * LAMP[0]
    shade = towards * across + 0.5 * np.sqrt(1 - across**2)
    gleam = np.exp(-(((across - 0.7 * towards) / 0.18) ** 2)) * (0.4 + 0.6 * abs(towards))
    shadow = np.roll(gaussian_filter(inside.astype(float), 3 * scale), (int(6 * scale), int(5 * scale)), (0, 1))
    ground = 205 + 6 * (LAMP[0] * columns + LAMP[1] * rows) / 128 - 45 * part.light * shadow
    image = np.where(inside, 75 + part.light * (30 * shade + 45 * gleam) + 14 * ridges + mark, ground)
    image = gaussian_filter(image, 0.5 * scale) + rng.normal(0, 3, image.shape) + rng.uniform(-6, 6)
    return image.clip(0, 255).astype(np.uint8), mask


def outline(part: Part, u: np.ndarray, v: np.ndarray, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Half the width of a part at each place along and across it, and the ridges of its thread."""
    if part.pin is not None:
        return np.where(np.abs(u + 55) < 6, 2.0, 1.0) * part.pin * (np.abs(u) < 80), np.zeros_like(u)
    ridges = 2 * np.abs((u / 7.5 + phase + 0.25 * np.clip(v / 14, -1, 1)) % 1 - 0.5)
    head = 26 - 0.1 * np.clip(-60 - u, 0, None) ** 1.3
    thread = (11 + 4 * ridges) * np.clip((85 - u) / 17, 0, 1)
    return np.select(
        [np.abs(u) > 85, u <= -58, u <= -25], [np.zeros_like(u), head, np.full_like(u, 12)], thread
    ), ridges


def drawn_poses(count: int, seed: int) -> np.ndarray:
    """Any angle, and shifts of up to 6 % of the side, (count, 3)."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-math.pi, math.pi, count), *rng.uniform(-15.4, 15.4, (2, count))], 1)


def write(arguments: argparse.Namespace) -> None:
    """A category of screws in the layout of MVTec AD."""
    counts = {"train/good": arguments.train, "test/good": arguments.good}
    counts |= {f"test/{kind}": arguments.defects for kind in KINDS}
    for number, (folder, count) in enumerate(counts.items()):
        kind = folder.split("/")[1]
        for index, pose in enumerate(drawn_poses(count, 100 * arguments.seed + number)):
            seed = 100_000 * arguments.seed + 10_000 * number + index
            image, mask = draw(Part(arguments.light), pose, seed, arguments.side, kind.removeprefix("good"))
            files = {f"{folder}/{index:03}.png": image}
            if kind != "good":
                files[f"ground_truth/{kind}/{index:03}_mask.png"] = mask.astype(np.uint8) * 255
            for name, array in files.items():
                file = arguments.target / name
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(file)


def print_poses(arguments: argparse.Namespace) -> None:
    """Errors against the poses that parts were drawn in; a third of the images are new."""
    print("| part | seed | upside down | angle, mean and worst | shift, mean and worst |\n|---|---|---|---|---|")
    for name, part in PARTS.items():
        for seed in range(arguments.seeds):
            truth = drawn_poses(arguments.images * 3 // 2, seed)
            arrays = np.stack([draw(part, pose, 1000 * seed + number, 256)[0] for number, pose in enumerate(truth)])
            pixels = torch.from_numpy(arrays)[:, None].expand(-1, 3, -1, -1)
            found, reason = register(in_fine_gray(pixels[: arguments.images]), (256, 256), "rigid", seed)
            if found is None or found.kind != "rigid":
                print(f"| {name} | {seed} | {reason} | | |")
                continue
            upside_down, angles, shifts = errors(
                torch.cat([found.normal, found.estimate(pixels[arguments.images :])]), truth
            )
            print(
                f"| {name} | {seed} | {upside_down} of {len(truth)} | {angles.mean():.2f}°, {angles.max():.2f}° "
                f"| {shifts.mean():.2f}, {shifts.max():.2f} |",
                flush=True,
            )


def errors(found: torch.Tensor, truth: np.ndarray) -> tuple[int, torch.Tensor, torch.Tensor]:
    """How many are upside down, and the errors of the others in degrees and pixels.

    The mean pose is anyone's choice, so errors are those against one of ten images, by which they are least.
    """
    common, tries = multiply(inverse(torch.from_numpy(truth).float()), found), []
    for one in range(0, len(common), max(1, len(common) // 10)):
        off = multiply(inverse(common[one : one + 1]).expand_as(common), common)
        right = off[:, 0].abs() < math.pi / 2
        angles, shifts = off[right, 0].abs().rad2deg(), torch.linalg.vector_norm(off[right, 1:], dim=1)
        tries.append((int((~right).sum()), angles, shifts))
    return min(tries, key=lambda each: (each[0], float(each[1].mean() + each[2].mean())))


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    writing = commands.add_parser("write", help="images and masks of screws, in the layout of MVTec AD")
    writing.add_argument("target", type=Path)
    writing.add_argument("--light", type=above(0, 10), default=1, help="strength of the lamp (1)")
    writing.add_argument("--side", type=whole(LEAST_SIDE), default=512, help="pixels along a side (512)")
    writing.add_argument("--train", type=whole(), default=160, help="normal images (160)")
    writing.add_argument("--good", type=whole(), default=40, help="normal test images (40)")
    writing.add_argument("--defects", type=whole(), default=15, help="images of each kind of defect (15)")
    writing.add_argument("--seed", type=whole(0), default=0)
    writing.set_defaults(run=write)
    posing = commands.add_parser("poses", help="a table of errors of poses")
    posing.add_argument("--images", type=whole(10), default=40, help="normal images of a fit (40)")
    posing.add_argument("--seeds", type=whole(), default=2, help="draws of each part (2)")
    posing.set_defaults(run=print_poses)
    arguments = parser.parse_args()
    if "target" in arguments and arguments.target.exists():
        parser.error(f"{arguments.target} is there already: name another folder")
    try:
        arguments.run(arguments)
    except OSError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
