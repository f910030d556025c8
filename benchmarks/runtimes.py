"""Ours in every runtime beside exported networks, in one run: milliseconds an image, and the ratios that count.

    python benchmarks/runtimes.py --weights resnet18=resnet18.safetensors

From transformed uint8 images to scores and maps, batch 1 and 32. All take turns, so that whatever else the machine does
falls on all of them. The least wall time of a call counts, and the processor time beside it tells where a runtime keeps
more than its threads busy, or waits. Exported files take all cores: let torch have as many (OMP_NUM_THREADS). Exits
with 1 where a ratio is over its limit.
"""

from __future__ import annotations

import copy
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import padim_zoo  # before torch, as users do: it sets how long threads of torch spin beside other runtimes

# isort: split
import numpy as np
import torch
from script_options import LEAST_SIDE, Parser, above, by_name, several, whole

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.conversion import in_runtime
from padim_zoo.backbones.device import has_fast_bfloat16
from padim_zoo.core.cpu import processor_name
from padim_zoo.core.errors import InputError
from padim_zoo.data.image import read_image
from padim_zoo.data.synthetic import generate
from padim_zoo.export.exporting import export
from padim_zoo.export.runtimes import ExportedModel
from padim_zoo.export.suffixes import SUFFIXES
from padim_zoo.runtimes.runtime import RUNTIMES

MANY = 10**6
"""Images that ``auto`` is told to expect, so that it measures."""
FACTOR, MILLISECONDS = 1.1, 1.5
"""Ours under ``auto`` takes at most so many times the fastest exported network, and so much more."""
NETWORK_SHARE, WHOLE_SHARE = 0.5, 0.55
"""What ``builtin`` takes of ``resnet18`` at batch 1 under ``auto``, at most: the networks alone, and from image to
score."""


class Times(NamedTuple):
    """Least milliseconds an image, by the clock and by the processor."""

    wall: float
    processor: float


def main() -> None:
    """Fit, export, time, judge."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", default="builtin,resnet18")
    parser.add_argument("--weights", type=by_name, action="append", default=[], metavar="BACKBONE=FILE")
    parser.add_argument("--batch-sizes", type=several(whole()), default="1,32")
    parser.add_argument("--size", type=whole(LEAST_SIDE), default=224)
    parser.add_argument("--train", type=whole(), default=60)
    parser.add_argument("--seconds", type=above(0), default=2.0, help="for each runtime and batch size")
    arguments = parser.parse_args()
    weights = dict(arguments.weights)
    precisions = ["float32", "bfloat16"] if has_fast_bfloat16(torch.device("cpu")) else ["float32"]
    print(f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    found: dict[tuple[str, str, int, str], Times] = {}
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PADIM_ZOO_CACHE"] = f"{folder}/cache"  # auto measures anew
        size = arguments.size
        generate(Path(folder), categories=["fabric"], train=arguments.train, good=2, defects_per_kind=1, size=size)
        for backbone, precision in itertools.product(arguments.backbones.split(","), precisions):
            fitted, runs, images = prepare(Path(folder), backbone, weights.get(backbone, "default"), precision, size)
            for batch in arguments.batch_sizes:
                some = np.repeat(images, -(-batch // len(images)), 0)[:batch]
                rows = take_turns({**runs, **by_auto(fitted, batch)}, some, arguments.seconds)
                problems += show(f"{backbone}, {precision}, batch {batch}", rows)
                found |= {(backbone, precision, batch, name): times for name, times in rows.items()}
    problems += compare_backbones(found)
    print(*problems or ["all ratios are within their limits"], sep="\n")
    sys.exit(bool(problems))


def prepare(
    folder: Path, backbone: str, weights: str, precision: str, size: int
) -> tuple[padim_zoo.PaDiM, dict[str, Callable[[np.ndarray], object]], np.ndarray]:
    """A fitted detector, what is timed by name beside ``auto``, and some test images after the transform."""
    normal = folder / "fabric" / "train" / "good"
    test = sorted((folder / "fabric" / "test").rglob("*.png"))
    fitted = padim_zoo.PaDiM(backbone, weights=weights, precision=precision, resize=(size, size)).fit(str(normal))
    runs: dict[str, Callable[[np.ndarray], object]] = {}
    for runtime in ("torch", *RUNTIMES):
        network = in_runtime(fitted.build_backbone(), runtime)
        runs[f"network, {runtime}"] = network_of(network)
        runs[f"ours, {runtime}"] = fitted.with_backbone(network).predict
    for form in SUFFIXES:
        path = folder / f"{backbone}-{precision}{SUFFIXES[form]}"
        try:
            export(fitted, path, form, precision=precision, images=test)
        except InputError as error:
            print(f"{backbone}, {precision}, {form}: {error}", flush=True)
            continue
        runs[f"exported, {form}"] = ExportedModel(path).session.run
    return fitted, runs, np.stack([fitted.transform.image(read_image(path)) for path in test])


def by_auto(fitted: padim_zoo.PaDiM, batch: int) -> dict[str, Callable[[np.ndarray], object]]:
    """The same by the runtime that ``auto`` chooses for so many images at once, which is said."""
    auto = copy.copy(fitted)
    auto.runtime = "auto"
    auto = auto.with_backbone(fitted.build_backbone().run_by(None))
    auto.expect(MANY, at_once=batch)
    backbone = auto.build_backbone()
    print(f"\n{backbone.name}, {backbone.precision}, batch {batch}: {backbone.choice or 'torch'}", flush=True)
    return {"network, auto": network_of(backbone), "ours, auto": auto.predict}


def network_of(backbone: Backbone) -> Callable[[np.ndarray], object]:
    """The backbone alone, from uint8 images to maps."""

    def run(images: np.ndarray) -> object:
        with torch.inference_mode():
            return backbone(torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255))

    return run


def take_turns(runs: dict[str, Callable[[np.ndarray], object]], images: np.ndarray, seconds: float) -> dict[str, Times]:
    """The least of many calls of each, the first ones not counted."""
    spent: dict[str, list[Times]] = {name: [] for name in runs}
    started = time.perf_counter()
    while time.perf_counter() - started < seconds * len(runs) or min(map(len, spent.values())) < 3:
        for name, run in runs.items():
            for turn in range(3):  # the first one finds the processor's caches full of another's weights
                wall, processor = time.perf_counter(), time.process_time()
                run(images)
                wall, processor = time.perf_counter() - wall, time.process_time() - processor
                if turn:
                    spent[name].append(Times(wall, processor))
    scale = 1000 / len(images)
    return {name: Times(*(scale * min(column) for column in zip(*times, strict=True))) for name, times in spent.items()}


def show(case: str, rows: dict[str, Times]) -> list[str]:
    """Print the table of a backbone, precision and batch size; what is over its limit."""
    fastest = min(times.wall for name, times in rows.items() if name.startswith("exported"))
    limit = FACTOR * fastest + MILLISECONDS
    print(f"{case}: ms an image  (processor)   of the fastest exported network")
    for name, times in rows.items():
        print(f"  {name:20} {times.wall:20.2f} {times.processor:12.2f} {times.wall / fastest:10.2f}")
    ours = rows["ours, auto"].wall
    verdict = f"auto takes {ours:.1f} ms, limit {limit:.1f}"
    print(f"  {verdict}", flush=True)
    return [f"{case}: {verdict}"] if ours > limit else []


def compare_backbones(found: dict[tuple[str, str, int, str], Times]) -> list[str]:
    """What builtin takes of resnet18 at batch 1, in each runtime; what is over its limit."""
    problems = []
    for (backbone, precision, batch, name), times in found.items():
        other = found.get(("resnet18", precision, 1, name))
        if backbone != "builtin" or batch != 1 or other is None or name.startswith("exported"):
            continue
        limit = NETWORK_SHARE if name.startswith("network") else WHOLE_SHARE
        share = times.wall / other.wall
        print(f"builtin of resnet18, {precision}, batch 1, {name}: {share:.2f}, limit {limit}")
        if share > limit and name.endswith("auto"):
            problems.append(f"{name}, {precision}: builtin takes {share:.2f} of resnet18, over {limit}")
    return problems


if __name__ == "__main__":
    main()
