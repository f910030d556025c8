"""What large images cost in bounded memory: time and peak memory, each as a ratio to the whole-image path.

    python benchmarks/large_images.py
    python benchmarks/large_images.py --size 2048x2448 --images 12 --memory 2GB --backbone resnet18 --weights W

Images are drawn: smooth scenes with noise. Every row runs in a process of its own. ``whole`` passes images through
the backbone uncut, without a limit of memory. ``bounded`` is ``--memory``. ``small`` is the same at 256 pixels. A
ratio divides by ``whole``. Peak memory is that of the whole process, its libraries included, and holds on a busy
machine; times do not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from padim_zoo.core.memory import parse_bytes
from padim_zoo.data.transform import parse_size

SMALL = 256
EQUAL = ("builtin", "resnet18", "torchvision/mobilenet_v2", "torchvision/vgg11_bn", "timm/convnext_atto")
"""Backbones of the comparison of features; those of torchvision and timm with random weights."""


def draw_images(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """PNG files of one smooth scene with noise of their own."""
    rng = np.random.default_rng(0)
    cells = (-(-size[0] // 32), -(-size[1] // 32))
    scene = np.kron(rng.integers(60, 180, (*cells, 3)), np.ones((32, 32, 1)))[: size[0], : size[1]]
    paths = []
    for number in range(count):
        paths.append(folder / f"{number:03}.png")
        noisy = np.clip(scene + rng.normal(0, 12, scene.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(paths[-1], compress_level=1)
    return paths


def measure(folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Fit on all images but the last, set a threshold, and score the last, in this process."""
    from padim_zoo import PaDiM
    from padim_zoo.bench.measure import PeakMemory

    paths = sorted(Path(folder).glob("*.png"))
    detector = PaDiM(**options)
    with PeakMemory() as of_fit:
        start = time.perf_counter()
        detector.fit(paths[:-1])
        detector.calibrate(folds=2)
        fit_seconds = time.perf_counter() - start
    with PeakMemory() as of_predict:
        start = time.perf_counter()
        score = float(detector.predict(paths[-1:]).scores[0])
        predict_seconds = time.perf_counter() - start
    return {
        "fit_seconds": fit_seconds,
        "predict_seconds": predict_seconds,
        "fit_peak_mb": of_fit.megabytes,
        "predict_peak_mb": of_predict.megabytes,
        "model_mb": detector.size_in_bytes() / 1e6,
        "score": score,
        "cut": str(detector.extractor.plans.latest or "whole"),
    }


def differences(size: tuple[int, int], backbones: tuple[str, ...]) -> dict[str, float]:
    """The largest difference between features in bands and whole, as a share of the largest feature."""
    import torch

    from padim_zoo import PaDiM

    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    found = {}
    for name in backbones:
        weights = "default" if name == "builtin" else "none"
        whole, bands = (
            PaDiM(backbone=name, weights=weights, resize=None, precision="float32", stream=stream).extract([image])
            for stream in (1, 3)
        )
        pairs = zip(whole.maps, bands.maps, strict=True)
        found[name] = max(float((one - other).abs().max() / one.abs().max()) for one, other in pairs)
        torch.manual_seed(0)
    return found


def _in_process(what: str, *arguments: Any) -> Any:
    """The result of a function of this file in a process of its own."""
    call = [sys.executable, __file__, "--child", json.dumps([what, *arguments])]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    if result.returncode:
        return {"failed": result.stderr.strip().splitlines()[-1]}
    return json.loads(result.stdout.splitlines()[-1])


@click.command(help=__doc__)
@click.option("--size", default="2048x2448", show_default=True, metavar="HxW")
@click.option("--images", default=6, show_default=True, type=click.IntRange(4))
@click.option("--memory", default="1GB", show_default=True)
@click.option("--backbone", default="builtin", show_default=True)
@click.option("--weights", default="default", show_default=True)
@click.option("--estimator", default="tied(cells=8)", show_default=True)
@click.option("--equality/--no-equality", default=True, show_default=True, help="Compare features of five backbones.")
@click.option("--output", type=click.Path(path_type=Path), help="Write all figures as JSON.")
@click.option("--child", hidden=True)
def main(
    size: str,
    images: int,
    memory: str,
    backbone: str,
    weights: str,
    estimator: str,
    equality: bool,
    output: Path | None,
    child: str | None,
) -> None:
    """Print a row for each way, and the ratios."""
    if child is not None:
        what, *arguments = json.loads(child)
        click.echo(json.dumps({"measure": measure, "differences": differences}[what](*arguments)))
        return
    pixels = parse_size(size)
    height_width = (pixels, pixels) if isinstance(pixels, int) else pixels
    assert height_width is not None
    common = {"backbone": backbone, "weights": weights, "estimator": estimator}
    ways = {
        "whole": {"resize": None, "stream": 1},
        "bounded": {"resize": None, "memory": parse_bytes("--memory", memory)},
        "small": {"resize": SMALL},
    }
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        draw_images(Path(folder), images, height_width)
        for way, options in ways.items():
            rows[way] = _in_process("measure", folder, common | options)
            click.echo(f"{way:<8} {json.dumps(rows[way])}", err=True)
    figures: dict[str, Any] = {"size": size, "images": images - 1, "memory": memory, **common, "ways": rows}
    whole = rows["whole"]
    for way in ("bounded", "small"):
        if "failed" not in rows[way] and "failed" not in whole:
            names = ("fit_seconds", "predict_seconds", "fit_peak_mb", "predict_peak_mb")
            ratios = {name: round(rows[way][name] / whole[name], 3) for name in names}
            figures[f"{way} / whole"] = ratios
            click.echo(f"{way} / whole: {ratios}")
    if "failed" not in rows["bounded"] and "failed" not in whole:
        figures["score_difference"] = abs(rows["bounded"]["score"] - whole["score"]) / whole["score"]
        click.echo(f"scores of bounded and whole differ by {figures['score_difference']:.1e} of their value")
    if equality:
        figures["differences"] = {}
        for name in EQUAL:
            of_backbone = _in_process("differences", [min(side, 512) for side in height_width], [name])
            figures["differences"] |= of_backbone if "failed" not in of_backbone else {name: of_backbone["failed"]}
        click.echo(f"largest difference of features in bands: {figures['differences']}")
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
