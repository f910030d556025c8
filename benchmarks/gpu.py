"""Ours on a GPU beside anomalib, in one run of at most eight minutes: fit, one image, 32 images, and peak memory.

    python benchmarks/gpu.py --work /somewhere/with/10GB

anomalib is installed in an environment of its own below --work first, which is not part of the eight minutes;
--rival-python takes one that is there, and --alone leaves it out. Everything is measured in a process of its own, from
images in main memory to scores and maps in main memory, on a device that has done all it was asked. --device cpu tries
the script itself. Exits with 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "rivals"))
from compare import BACKBONES, Found, install_rivals, make_images, measure_within, positive

MINUTES = 8
LEAST_SECONDS = 60
"""What a measurement must have left to be begun."""
TRAIN = 200
"""Normal images of a fit."""
PRECISIONS = ("float32", "bfloat16")
ROWS = {
    "fit, images/s": ("fit_s", TRAIN),
    "first fit, images/s": ("first_fit_s", TRAIN),
    "batch 1, ms": ("batch_1_ms", None),
    "batch 1, images/s": ("batch_1_ms", 1000),
    "batch 32, images/s": ("batch_32_ms", 1000),
    "peak memory of the GPU, MB": ("gpu_mb", None),
    "peak main memory, MB": ("host_mb", None),
    "network alone, batch 1, ms": ("network_batch_1_ms", None),
    "network alone, batch 32, images/s": ("network_batch_32_ms", 1000),
}
"""A figure, and what is divided by it for a speed, of which more is better."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the environment and the images")
    parser.add_argument("--device", default="cuda", help="cpu to try the script; cuda by default")
    parser.add_argument("--only", choices=BACKBONES, action="append", help="one backbone; all that there is time for")
    parser.add_argument("--threads", type=positive, help="of the processor; what torch takes by default")
    rival = parser.add_mutually_exclusive_group()
    rival.add_argument("--rival-python", help="an interpreter that has anomalib already")
    rival.add_argument("--alone", action="store_true", help="measure padim-zoo only")
    arguments = parser.parse_args()
    if arguments.rival_python and shutil.which(arguments.rival_python) is None:
        parser.error(f"--rival-python {arguments.rival_python}: there is no such program")
    import torch

    if arguments.device != "cpu" and not torch.cuda.is_available():
        print("there is no GPU that torch can use: give --device cpu to try the script without one", file=sys.stderr)
        sys.exit(2)
    python = None if arguments.alone else arguments.rival_python or install_rivals(arguments.work)
    images = make_images(arguments.work)
    end = time.monotonic() + 60 * MINUTES
    threads = arguments.threads or torch.get_num_threads()
    print(f"{name_of(arguments.device)}, {threads} threads, torch {torch.__version__}", flush=True)
    for backbone in arguments.only or BACKBONES:
        options = [str(images), backbone, str(BACKBONES[backbone]), str(threads), arguments.device]
        columns: dict[str, Found | None] = {}
        for precision in PRECISIONS:
            columns[f"padim-zoo, {precision}"] = within(
                end, sys.executable, "device_padim_zoo.py", [*options, precision]
            )
        if python is not None:
            columns["anomalib, float32"] = within(end, python, "device_anomalib.py", options)
        print_table(backbone, columns)


def within(end: float, python: str, script: str, options: list[str]) -> Found | None:
    """The figures of a script; None if it does not end in time."""
    left = end - time.monotonic()
    return None if left < LEAST_SECONDS else measure_within(left, python, script, options)


def name_of(device: str) -> str:
    """The card, or the processor."""
    import torch

    from padim_zoo.core.cpu import processor_name

    return processor_name() if device == "cpu" else f"{torch.cuda.get_device_name(device)} beside {processor_name()}"


def print_table(backbone: str, columns: dict[str, Found | None]) -> None:
    """A row for each figure, with how many times better ours is than the last column in brackets."""
    measured = {name: found for name, found in columns.items() if found is not None}
    print(f"\n{backbone}, {BACKBONES[backbone]} dimensions, {TRAIN} images of 256 × 256 in the fit\n")
    if len(measured) < len(columns):
        print(f"no time left, of {MINUTES} minutes, for: {', '.join(sorted(set(columns) - set(measured)))}\n")
    if not measured:
        return
    rival = next((found for name, found in measured.items() if name.startswith("anomalib")), None)
    print(f"| figure | {' | '.join(measured)} |\n|---{'|---' * len(measured)}|")
    for title, (key, per) in ROWS.items():
        cells = []
        for found in measured.values():
            cell = "–" if not found.get(key) else f"{found[key] if per is None else per / found[key]:.4g}"
            if rival is not None and found is not rival and found.get(key) and rival.get(key):
                cell += f" ({rival[key] / found[key]:.2f})"
            cells.append(cell)
        print(f"| {title} | {' | '.join(cells)} |")
    for size in (1, 32):
        shares = [
            f"{found[f'network_batch_{size}_ms'] / found[f'batch_{size}_ms']:.2f}"
            if f"network_batch_{size}_ms" in found
            else "–"
            for found in measured.values()
        ]
        print(f"| share of the network alone, batch {size} | {' | '.join(shares)} |")
    print(flush=True)


if __name__ == "__main__":
    main()
