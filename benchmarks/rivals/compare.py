"""Measure padim-zoo and anomalib side by side and print the ratios."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
RIVAL = "anomalib==2.7.0"
BACKBONES = {"resnet18": 100, "wide_resnet50_2": 550}
PRECISIONS = ("float32", "bfloat16")
ESTIMATORS = ("full", "low-rank(20)")
FIGURES = {
    "import": ("import_s", "s"),
    "fit": ("fit_s", "s"),
    "peak memory of the fit": ("fit_peak_mb", "MB"),
    "test 80 images": ("test_s", "s"),
    "latency, batch 1": ("batch_1_ms", "ms"),
    "per image, batch 32": ("batch_32_ms", "ms"),
    "model": ("model_mb", "MB"),
    "bare network, batch 1": ("bare_network_batch_1_ms", "ms"),
    "bare network per image, batch 32": ("bare_network_batch_32_ms", "ms"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the environment and the images")
    parser.add_argument("--only", choices=BACKBONES, action="append", help="one backbone; all by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="of padim-zoo; both by default")
    parser.add_argument("--rival-python", help="an interpreter that has anomalib already")
    arguments = parser.parse_args()

    images = make_images(arguments.work)
    rival = arguments.rival_python or install_rival(arguments.work)
    for backbone in arguments.only or BACKBONES:
        options = [str(images), backbone, str(BACKBONES[backbone]), str(arguments.threads)]
        theirs = measure(rival, "measure_anomalib.py", options)
        print(f"\n{backbone}, {BACKBONES[backbone]} dimensions, {arguments.threads} threads\n")
        ways = [(precision, estimator) for precision in arguments.precision or PRECISIONS for estimator in ESTIMATORS]
        ours = {way: measure(sys.executable, "measure_padim_zoo.py", [*options, *way]) for way in ways}
        names = [f"{precision}, {estimator}" for precision, estimator in ways]
        print(f"| figure | anomalib | {' | '.join(names)} |\n|---{'|---' * len(names)}|---|")
        for title, (key, unit) in FIGURES.items():
            cells = [f"{theirs[key]:.3g} {unit}" if key in theirs else "–"]
            for found in ours.values():
                ratio = f" ({theirs[key] / found[key]:.1f})" if key in theirs else ""
                cells.append(f"{found[key]:.3g} {unit}{ratio}")
            print(f"| {title} | {' | '.join(cells)} |")
        print(flush=True)


def make_images(work: Path) -> Path:
    from padim_zoo.data.synthetic import generate

    root = work / "images"
    generate(root, categories=["fabric"], train=200, good=40, defects_per_kind=8, size=256)
    return root


def install_rival(work: Path) -> str:
    folder = work / "anomalib"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", RIVAL], check=True)
    return str(python)


def measure(python: str, script: str, options: list[str]) -> dict[str, float]:
    """Run a script in a process of its own; its last line is one JSON object."""
    done = subprocess.run([python, str(HERE / script), *options], check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout.strip().splitlines()[-1], file=sys.stderr)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
