"""Milliseconds per image of a PaDiM and of its exports, in turn, from transformed uint8 images to scores and maps.

    python benchmarks/export_latency.py --backbone resnet18 --weights resnet18.safetensors --crop none

Prints one row per runtime and batch size: the median, the least, and the ratio of the medians to the detector's own in
float32. Runtimes take turns, so that whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import padim_zoo  # before torch, as users do: it sets how long threads of torch spin beside other runtimes

# isort: split
import numpy as np
import torch
from script_options import Parser, above, several, whole

from padim_zoo.core.errors import InputError
from padim_zoo.data.image import read_image
from padim_zoo.data.synthetic import generate
from padim_zoo.data.transform import parse_size
from padim_zoo.export.exporting import export
from padim_zoo.export.runtimes import ExportedModel
from padim_zoo.export.suffixes import SUFFIXES


def main() -> None:
    """Fit on synthetic images, export, time."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--n-components", type=whole())
    parser.add_argument("--estimator", default="full")
    parser.add_argument("--resize", type=parse_size, default=256)
    parser.add_argument("--crop", type=parse_size, default=224)
    parser.add_argument("--train", type=whole(), default=150)
    parser.add_argument("--batch-sizes", type=several(whole()), default="1,32")
    parser.add_argument("--seconds", type=above(0), default=2.0, help="per runtime and batch size")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, images = prepare(arguments, Path(folder))
        for size in arguments.batch_sizes:
            show(size, take_turns(runs, np.repeat(images, -(-size // len(images)), 0)[:size], arguments.seconds))


def prepare(
    arguments: argparse.Namespace, folder: Path
) -> tuple[dict[str, Callable[[np.ndarray], object]], np.ndarray]:
    """What is timed, by name, and some test images after the transform."""
    size = arguments.resize if isinstance(arguments.resize, int) else 256
    generate(folder, categories=["gear"], train=arguments.train, good=2, defects_per_kind=1, size=size)
    normal = folder / "gear" / "train" / "good"
    options = {
        "backbone": arguments.backbone,
        "weights": arguments.weights,
        "n_components": arguments.n_components,
        "estimator": arguments.estimator,
        "resize": arguments.resize,
        "crop": arguments.crop,
    }
    runs: dict[str, Callable[[np.ndarray], object]] = {}
    test = sorted((folder / "gear" / "test").rglob("*.png"))
    for precision in ("float32", "bfloat16"):
        detector = padim_zoo.PaDiM(precision=precision, **options).fit(str(normal))
        after = copy.copy(detector)
        after.resize = after.crop = None
        runs[f"detector {precision}"] = after.predict
        for form in SUFFIXES:
            path = folder / f"{form}-{precision}{SUFFIXES[form]}"
            try:
                done = export(detector, path, form, precision=precision, images=test)
            except InputError as error:
                print(f"{form} {precision}: {error}")
                continue
            found = done.difference
            print(
                f"{form} {precision}: {done.size / 1e6:.1f} MB, scores within {found.scores:.1e}, maps {found.maps:.1e}"
            )
            runs[f"{form} {precision}"] = ExportedModel(path).session.run
    return runs, np.stack([detector.transform.image(read_image(path)) for path in test])


def take_turns(
    runs: dict[str, Callable[[np.ndarray], object]], images: np.ndarray, seconds: float
) -> dict[str, list[float]]:
    """Seconds of each call, a first one of each not counted."""
    for run in runs.values():
        run(images)
    times: dict[str, list[float]] = {name: [] for name in runs}
    while min(sum(spent) for spent in times.values()) < seconds and len(times["detector float32"]) < 200:
        for name, run in runs.items():
            # A few calls in a row: the first one finds the caches full of another's factors.
            for turn in range(4):
                start = time.perf_counter()
                run(images)
                if turn:
                    times[name].append(time.perf_counter() - start)
    return times


def show(size: int, times: dict[str, list[float]]) -> None:
    """One row per runtime."""
    base = statistics.median(times["detector float32"])
    print(f"batch {size}, {torch.get_num_threads()} threads      ms per image  (least)   ratio")
    for name, spent in times.items():
        median = statistics.median(spent)
        print(f"  {name:22} {1000 * median / size:16.2f} {1000 * min(spent) / size:9.2f} {base / median:7.2f}")


if __name__ == "__main__":
    main()
