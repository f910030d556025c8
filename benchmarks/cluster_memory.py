"""Memory of a fit on a cluster by moments, for more and more images: what grows, and by how much for each image.

    python benchmarks/cluster_memory.py --images 4000 6000 8000

Fits small images of noise with ``--cluster local``, threshold included, and takes the largest resident memory of the
command, which holds the scheduler too, and of a worker. Among up to 3,000 images near copies are looked for, which
takes a tenth of a megabyte each in the command: give more.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from script_options import Parser, whole

FIT = "from padim_zoo.cli.main import main; main()"
OPTIONS = ["--resize", "64x64", "--n-components", "2", "--estimator", "ledoit-wolf", "--no-cache", "--cluster", "local"]
IMAGES = 100_000


def write_images(folder: Path, first: int, last: int) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(first, last):
        pixels = np.random.default_rng(number).integers(80, 160, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")


def peaks_of_fit(folder: Path, model: Path) -> tuple[int, int]:
    """The largest resident bytes of the command, and of one of its workers."""
    words = ["fit", str(folder), "--output", str(model), *OPTIONS]
    command = [sys.executable, "-c", FIT, *words]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=subprocess.PIPE, text=True) as process:
        parent, own, of_worker = psutil.Process(process.pid), 0, 0
        while True:
            try:
                own = max(own, parent.memory_info().rss)
                workers = [child.memory_info().rss for child in parent.children(recursive=True)]
                of_worker = max(of_worker, *workers, 0)
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            except psutil.NoSuchProcess:
                pass  # one has ended between two questions
            if process.poll() is not None:
                break
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.returncode == 0, told
    assert "moments of" in told, told
    return own, of_worker


def main() -> None:
    parser = Parser(description="Memory of a fit on a cluster, for more and more images.")
    parser.add_argument("--images", type=whole(), nargs="+", default=[4000, 6000, 8000])
    counts = sorted(set(parser.parse_args().images))
    if len(counts) < 2:
        parser.error("--images has one number: expected several, of which a line is made")
    with tempfile.TemporaryDirectory() as name:
        folder, written, peaks = Path(name) / "images", 0, []
        for count in counts:
            write_images(folder, written, count)
            written = count
            peaks.append(peaks_of_fit(folder, Path(name) / "model.safetensors"))
            own, of_worker = (peak / 1e6 for peak in peaks[-1])
            print(f"{count} images: command {own:.0f} MB, worker {of_worker:.0f} MB", flush=True)
    for what, of_all in zip(("command", "worker"), zip(*peaks, strict=True), strict=True):
        slope, start = np.polyfit(counts, of_all, 1)
        then = (start + slope * IMAGES) / 1e6
        print(f"{what}: {slope / 1e3:.1f} kB an image; by this line {then:.0f} MB at {IMAGES}")


if __name__ == "__main__":
    main()
