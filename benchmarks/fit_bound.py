"""A fit beside the least it could take: to decode its images, and to pass them through the network.

    python benchmarks/fit_bound.py --backbone resnet18 --weights resnet18.safetensors

All take turns in one process, and the least of each counts. Thresholds are not counted. Exits with 1 where a fit in
float32 takes more than 1.1 times the bound.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import padim_zoo  # before torch, as users do

# isort: split
import torch
from script_options import LEAST_SIDE, Parser, whole

from padim_zoo.core.cpu import processor_name
from padim_zoo.core.errors import InputError
from padim_zoo.data.loading import batches
from padim_zoo.data.synthetic import generate
from padim_zoo.detectors.padim import PaDiM

LIMIT = 1.1
"""A fit takes at most so many times what decoding and the network take."""


def main() -> None:
    """Draw images, time what a fit is made of, judge."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--runtime", default="torch")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--size", type=whole(LEAST_SIDE), default=224)
    parser.add_argument("--images", type=whole(), default=200)
    parser.add_argument("--rounds", type=whole(), default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            times = measure(Path(folder), arguments)
        except InputError as error:
            parser.error(str(error))
    bound, fit = times["decode and network"], times["fit"]
    print(f"{processor_name()}, {torch.get_num_threads()} threads; {arguments.images} images, seconds (of the bound)")
    for name, seconds in times.items():
        print(f"  {name:20} {seconds:6.2f}  {seconds / bound:5.2f}")
    over = arguments.precision == "float32" and fit > LIMIT * bound
    print(f"the fit takes {fit / bound:.2f} of the bound, limit {LIMIT}")
    sys.exit(over)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """The least seconds of each part of several rounds, the first of which warms up."""
    size = (arguments.size, arguments.size)
    generate(folder, categories=["fabric"], train=arguments.images, good=1, defects_per_kind=1, size=256)
    paths = sorted((folder / "fabric" / "train" / "good").glob("*.png"))

    def detector() -> PaDiM:
        made = padim_zoo.PaDiM(
            arguments.backbone,
            weights=arguments.weights,
            runtime=arguments.runtime,
            precision=arguments.precision,
            resize=size,
            cache=False,
        )
        made.build_backbone()
        return made

    example = detector()
    backbone, transform = example.build_backbone(), example.transform

    def decode() -> None:
        for _ in batches(paths, transform, example.batch_size):
            pass

    @torch.inference_mode()
    def decode_and_network() -> None:
        for batch in batches(paths, transform, example.batch_size):
            for part in torch.split(batch, backbone.images_at_once(*size) or len(batch)):
                backbone.forward_native_dtype(part.float().div_(255))

    spent: dict[str, list[float]] = {}
    for turn in range(arguments.rounds + 1):
        fitted = detector()
        steps: dict[str, Callable[[], object]] = {
            "decode": decode,
            "decode and network": decode_and_network,
            "statistics": partial(fitted.fit, paths),
            "Gaussians": partial(getattr, fitted, "gaussian_"),
        }
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn:
                spent.setdefault(name, []).append(time.perf_counter() - started)
    spent["fit"] = [sum(pair) for pair in zip(spent["statistics"], spent["Gaussians"], strict=True)]
    return {name: min(times) for name, times in spent.items()}


if __name__ == "__main__":
    main()
