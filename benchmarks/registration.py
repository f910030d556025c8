"""PaDiM with register beside plain PaDiM: the processor time of an image that is scored alone, and the ratio of both.

python benchmarks/registration.py [--size 256] [--photo 512] [--images 20] [--repeats 3]
"""

from __future__ import annotations

import math
import time
from functools import partial

import numpy as np
import torch
from script_options import LEAST_SIDE, Parser, whole

from padim_zoo import PaDiM


def turned_parts(count: int, size: int) -> np.ndarray:
    """Bright wedges on a dark ground, turned and shifted at random, (count, size, size, 3), uint8."""
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    images = []
    for _ in range(count):
        angle, (x, y) = rng.uniform(-math.pi, math.pi), rng.uniform(-0.06, 0.06, 2)
        u = math.cos(angle) * (columns - x) + math.sin(angle) * (rows - y)
        v = math.cos(angle) * (rows - y) - math.sin(angle) * (columns - x)
        shape = (np.abs(u) < 0.6) & (np.abs(v) < 0.1 + (u + 0.6) / 5)
        images.append((60 + 120 * shape + rng.normal(0, 3, shape.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(images)[..., None].repeat(3, 3)


def milliseconds(detector: PaDiM, images: np.ndarray) -> float:
    """The median processor time of an image."""
    times = []
    for image in images:
        start = time.process_time()
        detector.predict(image[None])
        times.append(time.process_time() - start)
    return 1e3 * float(np.median(times))


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=whole(LEAST_SIDE), default=256)
    parser.add_argument(
        "--photo", type=whole(LEAST_SIDE), default=512, help="side of the images before their resize (512)"
    )
    parser.add_argument("--images", type=whole(10), default=20)
    parser.add_argument("--repeats", type=whole(), default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = turned_parts(arguments.images, arguments.photo)
    make_padim = partial(PaDiM, "resnet18", weights="none", resize=(arguments.size, arguments.size), crop=None)
    detectors = {kind: make_padim(register=kind).fit(images) for kind in (None, "translation", "rigid")}
    for detector in detectors.values():
        detector.predict(images[:1])
    # The least of some medians, taken by turns: other work on the machine disturbs all alike.
    rounds = [{kind: milliseconds(each, images) for kind, each in detectors.items()} for _ in range(arguments.repeats)]
    least = {kind: min(each[kind] for each in rounds) for kind in detectors}
    size, photo = arguments.size, arguments.photo
    print(f"resnet18, {photo} x {photo} pixels at {size} x {size}, one image at a time, one thread, processor time")
    for kind, value in least.items():
        print(f"register={kind}: {value:.1f} ms, ratio {value / least[None]:.2f}")


if __name__ == "__main__":
    main()
