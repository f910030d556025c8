"""Memory of a fit, by number and size of images: it must not grow with them.

    python benchmarks/fit_memory.py --images 500,5000,20000 --size 256 --memory 1e9

Each fit runs in a process of its own, on images that are drawn as they are wanted. Printed are the peak of resident
memory, of which mapped files are a part that the system may take back at any moment, and its ratio to the first fit's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import click
import numpy as np
import psutil
from script_options import LEAST_SIDE

POOL = 64


def images(number: int, size: int) -> Iterator[np.ndarray]:
    """Images (size, size, 3), uint8, of one smooth scene with noise of their own."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(60, 180, (size // 16, size // 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    noise = rng.integers(0, 60, (POOL, size, size, 3), dtype=np.uint8)
    for _ in range(number):
        first, second = rng.integers(POOL, size=2)
        yield scene + noise[first] // 2 + noise[second] // 2


def fit(
    number: int, size: int, memory: int, backbone: str, n_components: int | None, threshold: bool
) -> dict[str, float]:
    """Fit in this process, and say what it took."""
    from padim_zoo import PaDiM

    process, peak, anonymous, over = psutil.Process(), [0], [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            found = process.memory_info()
            peak[0] = max(peak[0], found.rss)
            anonymous[0] = max(anonymous[0], found.rss - getattr(found, "shared", 0))

    watcher = threading.Thread(target=watch, daemon=True)  # a fit that fails ends the process
    watcher.start()
    start = time.perf_counter()
    detector = PaDiM(
        backbone, resize=size, crop=None, n_components=n_components, memory=memory, weights=_weights(backbone)
    )
    detector.fit(images(number, size))
    if threshold:
        detector.calibrate()
    seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    return {"images": number, "seconds": seconds, "peak": peak[0] / 1e6, "without_files": anonymous[0] / 1e6}


def _weights(backbone: str) -> str:
    return "default" if backbone == "builtin" else "none"


@click.command()
@click.option("--images", "numbers", default="500,20000", show_default=True, help="Numbers of images, comma-separated.")
@click.option(
    "--size", type=click.IntRange(LEAST_SIDE), default=256, show_default=True, help="Height and width in pixels."
)
@click.option(
    "--memory",
    type=click.FloatRange(1, 1e15),
    default=1e9,
    show_default=True,
    help="Bytes that a fit may take beside the backbone.",
)
@click.option("--backbone", default="builtin", show_default=True)
@click.option("--n-components", type=click.IntRange(1))
@click.option("--threshold", is_flag=True, help="Make a threshold too, from five folds.")
@click.option("--here", is_flag=True, hidden=True)
def main(
    numbers: str, size: int, memory: float, backbone: str, n_components: int | None, threshold: bool, here: bool
) -> None:
    if not all(number.isdecimal() and int(number) > 0 for number in numbers.split(",")):
        raise click.BadParameter(f"found {numbers!r}: expected whole numbers, e.g. 500,20000", param_hint="--images")
    if here:
        click.echo(json.dumps(fit(int(numbers), size, int(memory), backbone, n_components, threshold)))
        return
    click.echo("images    fit s   peak MB  without mapped files  ratio to the first")
    first = 0.0
    for number in numbers.split(","):
        command = [sys.executable, __file__, "--here", f"--images={number}", f"--size={size}", f"--memory={memory}"]
        command += [
            f"--backbone={backbone}",
            *([f"--n-components={n_components}"] if n_components else []),
            *["--threshold"] * threshold,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"the fit of {number} images failed: {done.stderr.strip().splitlines()[-1]}")
        found = json.loads(done.stdout)
        first = first or found["peak"]
        columns = f"{found['seconds']:9.1f} {found['peak']:9.0f} {found['without_files']:21.0f}"
        click.echo(f"{number:>6}{columns} {found['peak'] / first:19.2f}")


if __name__ == "__main__":
    main()
