"""One image at a time beside a program that keeps a processor busy: medians and 90th percentiles of the latency.

    python benchmarks/busy_neighbor.py

From image to map, with as many threads as there are processors. Each way to wait gets a process of its own, since
OpenMP reads it once: as padim-zoo sets it, and as GNU OpenMP does by itself. Exits with 1 where the 90th percentile
beside the neighbor is over three times the median.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from script_options import LEAST_SIDE, Parser, above, whole

from padim_zoo.core.cpu import processor_name, usable_processors
from padim_zoo.core.errors import InputError
from padim_zoo.runtimes.runtime import resolve_runtime

LIMIT = 3.0
"""The 90th percentile beside a busy neighbor, in medians."""
WAYS = {"as padim-zoo sets it": {}, "GNU OpenMP's own": {"GOMP_SPINCOUNT": "300000"}}
NEIGHBOR = [sys.executable, "-S", "-c", "while True: pass"]


def main() -> None:
    """Fit one model, time it in processes of their own, judge."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--runtimes", default="torch,onnx")
    parser.add_argument("--size", type=whole(LEAST_SIDE), default=256)
    parser.add_argument("--seconds", type=above(0), default=5.0, help="for each row")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model:
        print(json.dumps(latencies(arguments.model, arguments.images, arguments.seconds)))
        return
    print(f"{processor_name()}, {usable_processors()} processors; milliseconds from image to map")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        try:
            runtimes = [resolve_runtime(runtime) for runtime in arguments.runtimes.split(",")]
            model, images = fit(Path(folder), arguments)
        except InputError as error:
            parser.error(str(error))
        for runtime in runtimes:
            for way, settings in WAYS.items():
                rows = timed(model, images, arguments.seconds, {**settings, "PADIM_ZOO_RUNTIME": runtime})
                for row, (median, ninth) in rows.items():
                    print(
                        f"{runtime:6} {way:21} {row:16} median {median:6.1f}  90 % {ninth:6.1f}  {ninth / median:.1f}"
                    )
                if not settings:
                    worst = max(worst, rows["busy neighbor"][1] / rows["busy neighbor"][0])
    print(f"the 90th percentile beside the neighbor is at most {worst:.1f} medians, limit {LIMIT:g}")
    sys.exit(worst > LIMIT)


def fit(folder: Path, arguments: argparse.Namespace) -> tuple[Path, Path]:
    """A model of drawn parts, and test images."""
    import padim_zoo
    from padim_zoo.data.synthetic import generate

    size = arguments.size
    generate(folder, categories=["fabric"], train=60, good=4, defects_per_kind=1, size=size)
    detector = padim_zoo.PaDiM(arguments.backbone, weights=arguments.weights, resize=(size, size))
    detector.fit(str(folder / "fabric" / "train" / "good")).save(folder / "model.safetensors")
    return folder / "model.safetensors", folder / "fabric" / "test"


def timed(model: Path, images: Path, seconds: float, settings: dict[str, str]) -> dict[str, tuple[float, float]]:
    """Median and 90th percentile, alone and beside a neighbor, with such an environment."""
    taken = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in taken}
    environment |= {"OMP_NUM_THREADS": str(usable_processors()), **settings}
    command = [sys.executable, __file__, "--model", str(model), "--images", str(images), "--seconds", str(seconds)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True)
    if told.returncode:  # as of a runtime that is not installed
        sys.exit(told.stderr.strip().splitlines()[-1])
    return {row: tuple(figures) for row, figures in json.loads(told.stdout).items()}


def latencies(model: Path, images: Path, seconds: float) -> dict[str, tuple[float, float]]:
    """What :func:`timed` gives, in this process."""
    import padim_zoo
    from padim_zoo.data.image import read_image

    detector = padim_zoo.load(model)
    ready = [detector.transform.image(read_image(path))[None] for path in sorted(images.rglob("*.png"))]
    for image in ready:
        detector.predict(image)
    rows = {}
    for row in ("alone", "busy neighbor"):
        neighbor = subprocess.Popen(NEIGHBOR) if row != "alone" else None
        spent: list[float] = []
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            before = time.perf_counter()
            detector.predict(ready[len(spent) % len(ready)])
            spent.append(1000 * (time.perf_counter() - before))
        if neighbor is not None:
            neighbor.kill()
        rows[row] = (float(np.median(spent)), float(np.quantile(spent, 0.9)))
    return rows


if __name__ == "__main__":
    main()
