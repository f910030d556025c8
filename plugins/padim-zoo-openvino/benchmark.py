"""Torch and OpenVINO in turn on one backbone: milliseconds per image, and how often OpenVINO is as fast.

    python benchmark.py --backbone resnet18 --layers layer1,layer2,layer3 --weights resnet18.safetensors

``--weights none`` will do for times. Each pair takes turns, four calls each, of which the first is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from padim_zoo_openvino import create

from padim_zoo.data.synthetic import generate
from padim_zoo.plugin import Backbone, backbones


def main() -> None:
    """Time both, in each precision and at each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--layers", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--weights", default="none")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-sizes", default="1,32")
    parser.add_argument("--seconds", type=float, default=2.0, help="per pair")
    parser.add_argument("--int8", metavar="DIR", help="folder for drawn images that set the scales of int8")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    ours = backbones.create(options.backbone, layers=options.layers, weights=options.weights)
    theirs = create(options.backbone, layers=options.layers, weights=options.weights)
    pairs = [(precision, ours.in_precision(precision), theirs.in_precision(precision)) for precision in PRECISIONS]
    if options.int8:
        normal = generate(Path(options.int8), categories=["gear"], train=20, good=0, defects_per_kind=0)
        calibrated = create(
            options.backbone,
            layers=options.layers,
            weights=options.weights,
            calibration=str(normal / "gear" / "train" / "good"),
        )
        pairs.append(("int8 (torch: bfloat16)", ours.in_precision("bfloat16"), calibrated.in_precision("bfloat16")))
    print(f"{options.backbone} at {options.size}², {torch.get_num_threads()} threads: ms per image, medians")
    for batch in map(int, options.batch_sizes.split(",")):
        images = torch.rand(batch, 3, options.size, options.size)
        for name, torchs, openvinos in pairs:
            one, other = (1000 * seconds / batch for seconds in turns(torchs, openvinos, images, options.seconds))
            print(f"  batch {batch:2}  {name:24} torch {one:7.2f}   openvino {other:7.2f}   ratio {one / other:5.2f}")


PRECISIONS = ("float32", "bfloat16")


def turns(first: Backbone, second: Backbone, images: torch.Tensor, seconds: float) -> tuple[float, float]:
    """Median seconds of a call of each."""
    times: tuple[list[float], list[float]] = ([], [])
    runs: tuple[Callable[..., object], ...] = (first, second)
    for run in runs:
        run(images)
    while sum(map(sum, times)) < seconds:
        for run, spent in zip(runs, times, strict=True):
            for turn in range(4):
                start = time.perf_counter()
                run(images)
                if turn:
                    spent.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    main()
