"""Measure padim-zoo, anomalib and AnomaVision side by side and print the ratios."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
RIVALS = {"anomalib": "anomalib[openvino]==2.7.0", "AnomaVision": "anomavision==3.6.2"}
SCRIPTS = {"anomalib": "measure_anomalib.py", "AnomaVision": "measure_anomavision.py"}
CATEGORY = "fabric"
BACKBONES = {"resnet18": 100, "wide_resnet50_2": 550}
PRECISIONS = ("float32", "bfloat16")
RUNTIMES = ("torch", "onnx", "openvino", "auto")
FIGURES = {
    "import": ("import_s", "s"),
    "--help": ("help_s", "s"),
    "fit": ("fit_s", "s"),
    "peak memory of the fit": ("fit_peak_mb", "MB"),
    "test 80 images": ("test_s", "s"),
    "latency, batch 1": ("batch_1_ms", "ms"),
    "per image, batch 32": ("batch_32_ms", "ms"),
    "model": ("model_mb", "MB"),
    "bare network, batch 1": ("bare_network_batch_1_ms", "ms"),
    "bare network per image, batch 32": ("bare_network_batch_32_ms", "ms"),
    "3 estimators × 5 folds × 2 seeds": ("grid_s", "s"),
}
GOALS = {
    "resnet18": {
        "import": 0.1,
        "--help": 0.3,
        "fit": 3,
        "peak memory of the fit": 1200,
        "test 80 images": 1.8,
        "latency, batch 1": 10,
        "per image, batch 32": 6,
        "model": 60,
        "3 estimators × 5 folds × 2 seeds": 45,
    },
    "wide_resnet50_2": {
        "import": 0.1,
        "--help": 0.3,
        "fit": 20,
        "peak memory of the fit": 3500,
        "latency, batch 1": 80,
        "per image, batch 32": 35,
        "model": 1000,
    },
}
"""What padim-zoo, with full covariances, is meant to stay below on two cores."""

Found = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the environment and the images")
    parser.add_argument("--only", choices=BACKBONES, action="append", help="one backbone; all by default")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument(
        "--precision", choices=PRECISIONS, action="append", help="of padim-zoo; those that are fast here"
    )
    parser.add_argument("--grid", action="store_true", help="time a small grid too, by padim-zoo alone")
    parser.add_argument("--runtime", choices=RUNTIMES, action="append", help="of padim-zoo; torch and auto by default")
    rival = parser.add_mutually_exclusive_group()
    rival.add_argument("--rival-python", help="an interpreter that has anomalib already, and AnomaVision if it may")
    rival.add_argument("--alone", action="store_true", help="measure padim-zoo only")
    arguments = parser.parse_args()
    if arguments.rival_python and shutil.which(arguments.rival_python) is None:
        parser.error(f"--rival-python {arguments.rival_python}: there is no such program")

    columns = [
        (each, runtime)
        for each in arguments.precision or fast_precisions()
        for runtime in arguments.runtime or ("torch", "auto")
    ]
    images = make_images(arguments.work)
    python = None if arguments.alone else arguments.rival_python or install_rivals(arguments.work)
    for backbone in arguments.only or BACKBONES:
        options = [str(images), backbone, str(BACKBONES[backbone]), str(arguments.threads)]
        theirs = {} if python is None else rivals(python, options)
        ours: dict[str, Found] = {}
        for precision, runtime in columns:
            figures = measure(sys.executable, "measure_padim_zoo.py", [*options, precision, runtime])
            if arguments.grid and runtime == "torch":
                figures["grid_s"] = grid_seconds(images, backbone, arguments.threads, precision)
            ran = figures.pop("runtime", runtime)
            ours[f"{precision}, {runtime if ran == runtime else f'{runtime}: {ran}'}"] = figures
        print(f"\n{backbone}, {BACKBONES[backbone]} dimensions, {arguments.threads} threads\n")
        print_table(theirs, ours, GOALS[backbone])


def rivals(python: str, options: Sequence[str]) -> dict[str, Found]:
    """Figures of each rival, and of anomalib's own export to OpenVINO; AnomaVision only where it is installed."""
    theirs: dict[str, Found] = {"anomalib": measure(python, SCRIPTS["anomalib"], options)}
    exported = theirs["anomalib"].pop("batch_1_openvino_ms")
    theirs["anomalib, OpenVINO"] = {"batch_1_ms": exported}
    if subprocess.run([python, "-c", "import anomavision"], capture_output=True).returncode == 0:
        theirs["AnomaVision"] = measure(python, SCRIPTS["AnomaVision"], options)
    return theirs


def print_table(theirs: dict[str, Found], ours: dict[str, Found], goals: dict[str, float]) -> None:
    """A row for each figure: the rivals', ours with the ratio to the best of them in brackets, and our goal.

    Rows in which a rival is ahead of the best of ours come first.
    """
    rows = [(title, key, unit) for title, (key, unit) in FIGURES.items() if any(key in each for each in ours.values())]
    rows.sort(key=lambda row: not _is_behind(row[1], theirs, ours))  # stable
    print(f"| figure | {' | '.join([*theirs, *ours])} | goal |\n|---{'|---' * (len(theirs) + len(ours))}|---|")
    for title, key, unit in rows:
        best = min((found[key] for found in theirs.values() if key in found), default=None)
        cells = [_shown(found.get(key), unit) for found in theirs.values()]
        for found in ours.values():
            ratio = f" ({best / found[key]:.1f})" if best is not None and key in found else ""
            cells.append(_shown(found.get(key), unit) + ratio)
        behind = " (a rival is ahead)" if _is_behind(key, theirs, ours) else ""
        print(f"| {title}{behind} | {' | '.join(cells)} | {_shown(goals.get(title), unit)} |")
    print(flush=True)


def _is_behind(key: str, theirs: dict[str, Found], ours: dict[str, Found]) -> bool:
    best = min((found[key] for found in theirs.values() if key in found), default=float("inf"))
    return best < min(found[key] for found in ours.values() if key in found)


def fast_precisions() -> Sequence[str]:
    """Without bfloat16 where the processor would have to emulate it."""
    import torch

    from padim_zoo.backbones.device import has_fast_bfloat16

    return PRECISIONS if has_fast_bfloat16(torch.device("cpu")) else PRECISIONS[:1]


def make_images(work: Path) -> Path:
    """200 normal and 80 test images of 256 × 256."""
    from padim_zoo.core.errors import InputError
    from padim_zoo.data.synthetic import generate

    root = work / "images"
    try:
        generate(root, categories=[CATEGORY], train=200, good=40, defects_per_kind=8, size=256)
    except InputError as error:
        raise SystemExit(f"--work: {error}") from None
    return root


def install_rivals(work: Path) -> str:
    """Python of an environment with the rivals.

    AnomaVision pins versions that anomalib does not take, for its web pages: it is installed without what it asks for,
    all of which that its PaDiM needs anomalib brings.
    """
    folder = work / "anomalib"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "-q"]
    if subprocess.run([*pip, RIVALS["anomalib"]]).returncode:
        raise SystemExit(
            f"cannot install {RIVALS['anomalib']} in {folder}: see above; or give --rival-python, or --alone"
        )
    if subprocess.run([*pip, "--no-deps", RIVALS["AnomaVision"]]).returncode:
        print(f"cannot install {RIVALS['AnomaVision']}: it is left out", file=sys.stderr)
    return str(python)


def measure(python: str, script: str, options: Sequence[str]) -> Found:
    """Run a script in a process of its own; its last line is one JSON object."""
    found = measure_within(None, python, script, options)
    assert found is not None
    return found


def measure_within(seconds: float | None, python: str, script: str, options: Sequence[str]) -> Found | None:
    """As :func:`measure`; None where the script does not end in time."""
    command = [python, str(HERE / script), *options]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    line = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        if done.returncode:
            raise ValueError
        found: Found = json.loads(line)
    except ValueError:
        raise SystemExit(f"{python} {script} ended with {done.returncode} and no figures: see above") from None
    print(line, file=sys.stderr)
    return found


def grid_seconds(images: Path, backbone: str, threads: int, precision: str) -> float:
    """Seconds of ``padim-zoo bench``, from start to leaderboard: 30 fits and tests, with nothing kept from before."""
    command = [sys.executable, "-c", "from padim_zoo.cli.main import main; main()", "bench", "--dataset=mvtec"]
    command += [f"--data-root={images}", f"--categories={CATEGORY}", f"--backbones={backbone}", "--weights=none"]
    command += [f"--precision={precision}", "--estimators=full,ledoit-wolf,diagonal", "--folds=5", "--seeds=0,1"]
    command += ["--crop=none", "--no-cache", "--no-gallery", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        start = time.perf_counter()
        done = subprocess.run([*command, f"--output={folder}/runs"], env=environment, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise SystemExit(f"padim-zoo bench ended with {done.returncode}: see above")
        return time.perf_counter() - start


def _shown(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def positive(text: str) -> int:
    """A number of threads, as argparse reads it."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"found {text!r}: expected a whole number from 1")
    return int(text)


if __name__ == "__main__":
    main()
