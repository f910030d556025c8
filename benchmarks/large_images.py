"""What large images cost in bounded memory: time and peak memory, each as a ratio to the whole-image path.

    python benchmarks/large_images.py
    python benchmarks/large_images.py --size 2048x2448 --images 12 --memory 2GB --backbone resnet18 --weights W
    python benchmarks/large_images.py --quarters --size 1024x1224

Images are drawn: smooth scenes with noise. Every row runs in a process of its own. ``whole`` passes images through
the backbone uncut, without a limit of memory. ``bounded`` is ``--memory``. ``small`` is the same at 256 pixels. A
ratio divides by ``whole``. Peak memory is that of the whole process, its libraries included, and holds on a busy
machine; times on the clock do not, and times of processors better. ``predict / network`` divides by the backbone alone
on as many pixels in images of 256. Both are measured in turn, and the median of the ratios counts.

``--quarters`` draws the synthetic data set in large, with small defects. It compares AUPRO of the regions by their
area, at 256 pixels and at native size, both in the pixels of the original images.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from padim_zoo.core.memory import parse_bytes
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.image import image_size
from padim_zoo.data.transform import parse_size

SMALL = 256
TURNS = 4
"""How often the network alone and a prediction are measured in turn."""

DETECTORS: dict[str, dict[str, object]] = {
    "padim": {"estimator": "tied(cells=8)"},
    "patchcore": {"coreset_ratio": 0.01},
    "subspace": {},
}
"""Detectors of the comparison by area, with their parameters."""

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
        start, of_processor = time.perf_counter(), time.process_time()
        detector.fit(paths[:-1])
        detector.calibrate(folds=2)
        fit_seconds = time.perf_counter() - start
        fit_cpu_seconds = time.process_time() - of_processor
    detector.predict(paths[-1:])  # what is packed once
    with PeakMemory() as of_predict:
        start, of_processor = time.perf_counter(), time.process_time()
        score = float(detector.predict(paths[-1:]).scores[0])
        predict_seconds = time.perf_counter() - start
        predict_cpu_seconds = time.process_time() - of_processor
    backbone, ratios = detector.build_backbone(), []
    for _ in range(TURNS if detector.resize is None else 0):
        alone = network(backbone, image_size(paths[-1]))
        of_processor = time.process_time()
        detector.predict(paths[-1:])
        ratios.append((time.process_time() - of_processor) / alone)
    return {
        "fit_seconds": fit_seconds,
        "fit_cpu_seconds": fit_cpu_seconds,
        "predict_seconds": predict_seconds,
        "predict_cpu_seconds": predict_cpu_seconds,
        "fit_peak_mb": of_fit.megabytes,
        "predict_peak_mb": of_predict.megabytes,
        "model_mb": detector.size_in_bytes() / 1e6,
        "score": score,
        "predict / network": statistics.median(ratios) if ratios else None,
        "cut": str(detector.extractor.plans.latest or "whole"),
    }


def network(backbone: Any, size: tuple[int, int]) -> float:
    """Processor seconds of the backbone alone on images of 256 pixels with as many pixels as one large image."""
    import torch

    count = size[0] * size[1] / SMALL**2
    images = torch.rand(16, 3, SMALL, SMALL)
    backbone(images)
    start, passes = time.process_time(), max(1, round(count / len(images)))
    for _ in range(passes):
        backbone(images)
    return (time.process_time() - start) * count / (passes * len(images))


def quarters(folder: str, detector: str, options: dict[str, Any]) -> dict[str, float]:
    """AUPRO of all regions and by quarters of their area, in the pixels of the original images."""
    from padim_zoo import metrics, registry
    from padim_zoo.data.transform import Transform

    category = registry.datasets.create("folder", root=folder).load("leather")
    model = registry.detectors.create(detector, **options).fit([sample.path for sample in category.train])
    prediction = model.predict([sample.path for sample in category.test])
    assert prediction.maps is not None
    truth = masks(category.test, Transform(None, None))
    sizes = [image_size(sample.path) for sample in category.test]
    maps = np.stack([model.transform.on_original(one, *size) for one, size in zip(prediction.maps, sizes, strict=True)])
    labels = np.array([sample.label for sample in category.test])
    values = metrics.evaluate(labels, prediction.scores, maps, truth).values
    return {name: values[name] for name in ("image_auroc", "aupro", *(f"aupro_q{number}" for number in (1, 2, 3, 4)))}


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


def compare_quarters(
    size: tuple[int, int], defect_area: tuple[int, int], train: int, options: dict[str, Any]
) -> dict[str, Any]:
    """AUPRO by area of all detectors at both sizes."""
    from padim_zoo.data.synthetic import generate

    figures: dict[str, Any] = {"size": size, "defect_area": defect_area, "train": train, **options}
    with tempfile.TemporaryDirectory() as folder:
        counts = {"train": train, "good": 6, "defects_per_kind": 3}
        generate(folder, categories=["leather"], size=size, defect_area=defect_area, **counts)
        for name, own in DETECTORS.items():
            for way, resize in (("256", SMALL), ("native", None)):
                row = _in_process("quarters", folder, name, {**options, **own, "resize": resize})
                figures[f"{name}, {way}"] = row
                click.echo(f"{name}, {way}: {json.dumps(row)}")
    return figures


@click.command(help=__doc__)
@click.option("--size", default="2048x2448", show_default=True, metavar="HxW")
@click.option("--images", default=6, show_default=True, type=click.IntRange(4))
@click.option("--memory", default="1GB", show_default=True)
@click.option("--backbone", default="builtin", show_default=True)
@click.option("--weights", default="default", show_default=True)
@click.option("--estimator", default="tied(cells=8)", show_default=True)
@click.option("--equality/--no-equality", default=True, show_default=True, help="Compare features of five backbones.")
@click.option("--quarters", "by_quarter", is_flag=True, help="Compare AUPRO by area at 256 pixels and at native size.")
@click.option("--defect-area", default="50..500", show_default=True, metavar="LOW..HIGH", help="With --quarters.")
@click.option("--train", default=24, show_default=True, help="With --quarters: normal images.")
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
    by_quarter: bool,
    defect_area: str,
    train: int,
    output: Path | None,
    child: str | None,
) -> None:
    """Print a row for each way, and the ratios."""
    if child is not None:
        what, *arguments = json.loads(child)
        calls: dict[str, Callable[..., dict[str, Any]]]
        calls = {"measure": measure, "differences": differences, "quarters": quarters}
        click.echo(json.dumps(calls[what](*arguments)))
        return
    pixels = parse_size(size)
    height_width = (pixels, pixels) if isinstance(pixels, int) else pixels
    assert height_width is not None
    if by_quarter:
        low, high = map(int, defect_area.split(".."))
        figures = compare_quarters(height_width, (low, high), train, {"backbone": backbone, "weights": weights})
        if output is not None:
            output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        return
    common: dict[str, object] = {"backbone": backbone, "weights": weights, "estimator": estimator}
    ways: dict[str, dict[str, object]] = {
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
    figures = {"size": size, "images": images - 1, "memory": memory, **common, "ways": rows}
    whole = rows["whole"]
    for way in ("bounded", "small"):
        if "failed" not in rows[way] and "failed" not in whole:
            names = (
                *("fit_seconds", "fit_cpu_seconds", "predict_seconds", "predict_cpu_seconds"),
                *("fit_peak_mb", "predict_peak_mb"),
            )
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
