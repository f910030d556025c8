"""What the caches save on large images, and what decoding costs beside the network, as ratios of times.

python benchmarks/caches.py [--images 64] [--side 1024] [--backbones builtin,resnet18,timm/mobileone_s0]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from script_options import LEAST_SIDE, Parser, whole

from padim_zoo import PaDiM
from padim_zoo.bench.extraction import extract
from padim_zoo.cache.caches import Caches
from padim_zoo.cache.features import FeatureCache
from padim_zoo.cache.images import ImageCache
from padim_zoo.data.loading import batches, usual_workers
from padim_zoo.data.sample import Sample


def draw(path: Path, seed: int, side: int) -> Path:
    """A photograph, as far as a PNG decoder can tell: smooth shapes, and the noise of a camera."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(40, 215, (12, 12, 3)).astype(np.uint8)).resize((side, side))
    pixels = np.asarray(shapes) + rng.normal(0, 3, (side, side, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def seconds(work: Callable[[], object]) -> float:
    """The time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def show(name: str, took: float, without: float) -> None:
    """A line with a ratio."""
    print(f"{name:<44} {took:6.2f} s   {without / took:5.2f} times as fast")


def decoding_beside_the_network(paths: list[Path], backbone: str) -> None:
    """How much of the shorter of both is hidden behind the longer."""
    detector = PaDiM(backbone, weights="none")
    pixels = torch.cat(list(batches(paths, detector.transform, 32))).permute(0, 2, 3, 1).numpy()
    detector.extract(pixels[:32])
    decoding = min(seconds(lambda: list(batches(paths, detector.transform, 32))) for _ in range(2))
    network = min(seconds(lambda: detector.extract(pixels)) for _ in range(2))
    both = min(seconds(lambda: detector.extract(paths)) for _ in range(2))
    each = 1000 / len(paths)
    print(
        f"{backbone}: {each * decoding:.1f} ms to decode an image by {usual_workers()} threads, "
        f"{each * network:.1f} ms network, {each * both:.1f} ms together: {both / (decoding + network):.2f} of the sum"
    )


def several_backbones(paths: list[Path], backbones: list[str], folder: Path) -> None:
    """Features by each backbone: all images decoded for each, decoded once, and read from an earlier time."""
    samples = [Sample(path, 0) for path in paths]
    detectors = [PaDiM(name, weights="none" if name != "builtin" else "default") for name in backbones]
    for detector in detectors:
        detector.extract(paths[:2])
    told: list[float] = []

    def extract_all(caches: Caches) -> None:
        told.append(0.0)
        for detector in detectors:
            detector.cache = caches
            told[-1] += 1000 * extract(detector, samples).seconds_per_image

    print(f"\nfeatures of {len(paths)} images by {len(backbones)} backbones, as a benchmark makes them")
    without = seconds(lambda: extract_all(Caches()))
    caches = Caches(ImageCache(folder))
    show("without a cache", without, without)
    show("with an empty cache of images", seconds(lambda: extract_all(caches)), without)
    show("with a full one", seconds(lambda: extract_all(caches)), without)
    print("times that a leaderboard tells, ms per image: " + ", ".join(f"{each:.1f}" for each in told))


def second_fit(train: list[Path], test: list[Path], backbone: str, folder: Path) -> None:
    """A fit and the scores of test images, then the same by another estimator."""
    caches = Caches(ImageCache(folder), FeatureCache(folder))
    network = PaDiM(backbone, weights="none").build_backbone()
    PaDiM(network).fit(train[:4])

    def fit_and_score(estimator: str, cache: Caches) -> None:
        PaDiM(network, estimator, cache=cache).fit(train).predict(test)

    print(f"\n{backbone}: a fit on {len(train)} images and the scores of {len(test)}")
    for estimator, state in (("full", "an empty"), ("oas", "a full")):
        without = seconds(partial(fit_and_score, estimator, Caches()))
        show(f"{estimator}, without a cache", without, without)
        show(f"{estimator}, with {state} cache", seconds(partial(fit_and_score, estimator, caches)), without)


def reading(paths: list[Path], folder: Path) -> None:
    """One image, decoded and read, on one thread."""
    transform = PaDiM().transform
    cold, cache = Caches(), ImageCache(folder)
    assert cold.images is None
    for path in paths:
        cache.resized(path, transform)
    with ThreadPoolExecutor(1) as one:
        decoded = seconds(lambda: list(one.map(lambda path: next(batches(path, transform, 1)), paths)))
        read = seconds(lambda: list(one.map(lambda path: cache.resized(path, transform), paths)))
    each = 1000 / len(paths)
    print(f"\n{each * decoded:.1f} ms to decode and resize an image, {each * read:.2f} ms to read it resized")


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=whole(3), default=64)
    parser.add_argument("--side", type=whole(LEAST_SIDE), default=1024)
    parser.add_argument("--backbones", default="builtin,resnet18,timm/mobileone_s0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [draw(folder / f"{seed:04}.png", seed, arguments.side) for seed in range(arguments.images)]
        size = paths[0].stat().st_size / 1e6
        print(
            f"{arguments.images} PNG files of {arguments.side}², {size:.1f} MB each; {torch.get_num_threads()} threads"
        )
        backbones = arguments.backbones.split(",")
        for backbone in backbones:
            decoding_beside_the_network(paths, backbone)
        several_backbones(paths, backbones, folder / "several")
        third = len(paths) // 3
        second_fit(paths[third:], paths[:third], backbones[len(backbones) // 2], folder / "second")
        reading(paths[:16], folder / "second")


if __name__ == "__main__":
    main()
