"""What large images cost in bounded memory, and what native size finds: five parts, all or those of ``--parts``.

    python benchmarks/large_images.py
    python benchmarks/large_images.py --parts cost --images 102 --ways bounded --folds 5 --backbones resnet18
    python benchmarks/large_images.py --parts anomalib --rival-python /path/to/python

``cost``: a fit, a threshold and a prediction, each as a ratio to the whole-image path. ``whole`` passes images through
the backbone uncut, without a limit of memory; ``bounded`` is ``--memory``; ``small`` is the same at 256 pixels. ``/
network`` divides by the backbone alone on as many pixels in images of 256: both in turn, and the median counts.

``equality``: the largest difference of features in bands and whole, for five backbones. ``seams``: the largest step of
a map across the edges of tiles, and anywhere else. ``areas``: AUPRO of the regions by their area, at 256 pixels and at
native size, both in the pixels of the original images. ``anomalib``: its PaDiM with its tiler, beside tiles of the same
size and bands.

Images are drawn, and every row runs in a process of its own. Peak memory is that of the whole process, its libraries
included, and holds on a busy machine; times on the clock do not, and times of processors better.
"""

from __future__ import annotations

import json
import os
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

HERE = Path(__file__).parent
PARTS = ("cost", "equality", "seams", "areas", "anomalib")
WAYS = ("whole", "bounded", "small")
SMALL = 256
TURNS = 4
"""How often the network alone and a prediction are measured in turn."""

DETECTORS: dict[str, dict[str, Any]] = {
    "padim": {"estimator": "tied(cells=8)"},
    "patchcore": {"coreset_ratio": 0.001},
    "subspace": {},
}
"""Detectors of the comparison by area, with their parameters."""

EQUAL = ("builtin", "resnet18", "torchvision/mobilenet_v2", "torchvision/vgg11_bn", "timm/convnext_atto")
"""Backbones of the comparison of features; all but the first with random weights."""

RIVAL_DIMENSIONS = 30
"""Of the comparison with anomalib, whose covariances take n² numbers a patch: 100 would take 39 GB at 5 megapixels."""
RIVAL_TILE = 512
RIVAL = "anomalib==2.7.0"

Size = tuple[int, int]


def draw_images(folder: Path, count: int, size: Size) -> list[Path]:
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


# -- in processes of their own ---------------------------------------------------------------------------------------


def measure(folder: str, options: dict[str, Any], folds: int, turns: int) -> dict[str, Any]:
    """Fit on all images but the last, set a threshold if there are folds, and score the last."""
    from padim_zoo import PaDiM
    from padim_zoo.bench.measure import PeakMemory

    paths = sorted(Path(folder).glob("*.png"))
    detector = PaDiM(**options)
    found: dict[str, Any] = {}
    with PeakMemory() as of_fit:
        start, of_processor = time.perf_counter(), time.process_time()
        detector.fit(paths[:-1])
        if folds:
            detector.calibrate(folds=folds)
        found["model_mb"] = detector.size_in_bytes() / 1e6
        found["fit_seconds"], found["fit_cpu_seconds"] = time.perf_counter() - start, time.process_time() - of_processor
    detector.predict(paths[-1:])  # what is packed once
    with PeakMemory() as of_predict:
        start, of_processor = time.perf_counter(), time.process_time()
        found["score"] = float(detector.predict(paths[-1:]).scores[0])
        found["predict_seconds"] = time.perf_counter() - start
        found["predict_cpu_seconds"] = time.process_time() - of_processor
    backbone, ratios = detector.build_backbone(), []
    for _ in range(turns):
        alone = network(backbone, image_size(paths[-1]))
        of_processor = time.process_time()
        detector.predict(paths[-1:])
        ratios.append((time.process_time() - of_processor) / alone)
    peaks = {"fit_peak_mb": of_fit.megabytes, "predict_peak_mb": of_predict.megabytes}
    by_network = {"predict / network": statistics.median(ratios)} if ratios else {}
    return found | peaks | by_network | {"cut": str(detector.extractor.plans.latest or "whole")}


def network(backbone: Any, size: Size) -> float:
    """Processor seconds of the backbone alone on images of 256 pixels with as many pixels as one large image."""
    import torch

    count = size[0] * size[1] / SMALL**2
    images = torch.rand(16, 3, SMALL, SMALL)
    backbone(images)
    start, passes = time.process_time(), max(1, round(count / len(images)))
    for _ in range(passes):
        backbone(images)
    return (time.process_time() - start) * count / (passes * len(images))


def differences(size: Size, name: str) -> float:
    """The largest difference between features in bands and whole, as a share of the largest feature."""
    from padim_zoo import PaDiM

    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    weights = "default" if name == "builtin" else "none"
    whole, bands = (
        PaDiM(backbone=name, weights=weights, resize=None, precision="float32", stream=stream).extract([image])
        for stream in (1, 3)
    )
    return max(
        float((one - other).abs().max() / one.abs().max()) for one, other in zip(whole.maps, bands.maps, strict=True)
    )


def seams(folder: str, tiles: str, options: dict[str, Any]) -> dict[str, float]:
    """The largest step of a map from one pixel to the next, where a tile begins or ends, and elsewhere."""
    from padim_zoo import PaDiM
    from padim_zoo.features.tiles import layout_of

    paths = sorted(Path(folder).glob("*.png"))
    detector = PaDiM(**options, resize=None, tiles=tiles).fit(paths[:-1])
    maps = detector.predict(paths[-1:]).maps
    assert maps is not None
    layout = layout_of(tiles, image_size(paths[-1]))
    found = {"across edges": 0.0, "elsewhere": 0.0}
    for axis, own in ((1, layout.rows), (2, layout.columns)):
        steps = np.abs(np.diff(maps, axis=axis)).max((0, 3 - axis))
        edges = {place - 1 for start in own.starts for place in (start, start + own.size) if 0 < place < own.length}
        at_edges = np.isin(np.arange(len(steps)), list(edges))
        for name, where in (("across edges", at_edges), ("elsewhere", ~at_edges)):
            found[name] = max(found[name], float(steps[where].max(initial=0)))
    return found


def areas(folder: str, detector: str, options: dict[str, Any]) -> dict[str, float]:
    """AUPRO of all regions and by quarters of their area, in the pixels of the original images; and what it cost."""
    from padim_zoo import metrics, registry
    from padim_zoo.bench.measure import PeakMemory
    from padim_zoo.data.transform import Transform

    category = registry.datasets.create("folder", root=folder).load("leather")
    of_processor = time.process_time()
    with PeakMemory() as peak:
        model = registry.detectors.create(detector, **options).fit([sample.path for sample in category.train])
        model.size_in_bytes()
        fit_seconds, of_processor = time.process_time() - of_processor, time.process_time()
        prediction = model.predict([sample.path for sample in category.test])
        predict_seconds = (time.process_time() - of_processor) / len(category.test)
    assert prediction.maps is not None
    truth = masks(category.test, Transform(None, None))
    sizes = [image_size(sample.path) for sample in category.test]
    maps = np.stack([model.transform.on_original(one, *size) for one, size in zip(prediction.maps, sizes, strict=True)])
    labels = np.array([sample.label for sample in category.test])
    values = metrics.evaluate(labels, prediction.scores, maps, truth).values
    names = ("aupro", *(f"aupro_q{number}" for number in (1, 2, 3, 4)), "image_auroc")
    cost = {"fit_cpu_seconds": fit_seconds, "predict_cpu_seconds": predict_seconds, "peak_mb": peak.megabytes}
    return {name: values[name] for name in names} | cost


# -- parts -----------------------------------------------------------------------------------------------------------


def _in_process(call: list[str]) -> Any:
    """What the last line of a program's output says, as JSON, or why there is none."""
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"ended with {result.returncode}"]
        return {"failed": lines[-1]}
    return json.loads(result.stdout.splitlines()[-1])


def _child(what: str, *arguments: Any) -> Any:
    """The result of a function of this file in a process of its own."""
    return _in_process([sys.executable, __file__, "--child", json.dumps([what, *arguments])])


def _shown(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def print_table(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """A Markdown table with a row for each entry."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    click.echo(f"\n| {title} | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
    for label, row in rows.items():
        click.echo(f"| {label} | {' | '.join(_shown(row.get(name, '–')) for name in names)} |")


def part_cost(size: Size, images: int, folds: int, ways: list[str], memory: int, backbone: dict[str, Any]) -> Any:
    """Each way with one backbone; ratios of the later ways to the first."""
    options: dict[str, dict[str, Any]] = {
        "whole": {"resize": None, "stream": 1},
        "bounded": {"resize": None, "memory": memory},
        "small": {"resize": SMALL},
    }
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        draw_images(Path(folder), images, size)
        for way in ways:
            turns = TURNS if way != "small" else 0
            rows[way] = _child("measure", folder, backbone | options[way] | DETECTORS["padim"], folds, turns)
    print_table(f"{backbone['backbone']}, {images - 1} images", rows)
    measured = {way: row for way, row in rows.items() if "failed" not in row}
    if "whole" in measured:
        whole = measured.pop("whole")
        names = [name for name in whole if name.endswith(("_seconds", "_mb"))]
        ratios = {f"{way} / whole": {name: row[name] / whole[name] for name in names} for way, row in measured.items()}
        if "bounded" in measured:
            ratios["bounded / whole"]["score"] = measured["bounded"]["score"] / whole["score"]
        print_table("ratio", ratios)
    return rows


def part_equality(size: Size) -> Any:
    """Five backbones; images of at most 512 pixels, since the whole-image path has to fit too."""
    small = [min(side, 512) for side in size]
    rows = {}
    for name in EQUAL:
        found = _child("differences", small, name)
        rows[name] = found if isinstance(found, dict) else {"difference": f"{found:.1e}"}
    print_table("bands against whole", rows)
    return rows


def part_seams(size: Size, backbone: dict[str, Any]) -> Any:
    """Tiles that touch, and tiles that overlap."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        draw_images(Path(folder), 4, size)
        for tiles in ("2x2", f"{min(512, min(size) // 2)}+64"):
            rows[tiles] = _child("seams", folder, tiles, backbone | DETECTORS["padim"])
    print_table("largest step of a map", rows)
    return rows


def part_areas(size: Size, defect_area: Size, train: int, memory: int, backbone: dict[str, Any]) -> Any:
    """All detectors at both sizes."""
    from padim_zoo.data.synthetic import generate

    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        counts = {"train": train, "good": 6, "defects_per_kind": 2}
        generate(folder, categories=["leather"], size=size, defect_area=defect_area, **counts)
        for name, own in DETECTORS.items():
            for way, resize in (("256", SMALL), ("native", None)):
                options = backbone | own | {"resize": resize, "memory": memory}
                rows[f"{name}, {way}"] = _child("areas", folder, name, options)
    print_table(f"AUPRO, {train} normal images", rows)
    return rows


def part_anomalib(size: Size, images: int, python: str) -> Any:
    """PaDiM of resnet18 with random weights and full covariances, by both, without a threshold."""
    ours = {"backbone": "resnet18", "weights": "none", "n_components": RIVAL_DIMENSIONS, "resize": None}
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        draw_images(Path(folder), images, size)
        script = str(HERE / "rivals" / "measure_anomalib_tiles.py")
        rows["anomalib"] = _in_process([python, script, folder, str(RIVAL_DIMENSIONS), str(RIVAL_TILE)])
        for label, own in (("tiles", {"tiles": f"{RIVAL_TILE}+0"}), ("bands", {})):
            rows[f"padim-zoo, {label}"] = _child("measure", folder, ours | own | {"memory": 4 * 10**9}, 0, 0)
    for row in rows.values():
        row.pop("score", None)
    print_table(f"{images - 1} images, {RIVAL_DIMENSIONS} dimensions", rows)
    theirs = rows["anomalib"]
    if "failed" not in theirs:
        ratios = {
            label: {name: theirs[name] / row[name] for name in theirs}
            for label, row in rows.items()
            if label != "anomalib" and "failed" not in row
        }
        print_table("anomalib / padim-zoo", ratios)
    return rows


@click.command(help=__doc__)
@click.option("--parts", default=",".join(PARTS), show_default=True, help="Some of these.")
@click.option("--size", default="2048x2448", show_default=True, metavar="HxW")
@click.option("--images", default=6, show_default=True, type=click.IntRange(4), help="The last is scored.")
@click.option("--folds", type=click.IntRange(2), default=2, show_default=True, help="Of cost, for the threshold.")
@click.option("--ways", default=",".join(WAYS), show_default=True, help="Of cost: some of these.")
@click.option("--memory", default="2GB", show_default=True)
@click.option("--backbones", default="resnet18,builtin", show_default=True, help="Of cost; of other parts the last.")
@click.option("--weights", default="none", show_default=True, help="Of backbones other than builtin: none, or a file.")
@click.option("--defect-area", default="50..500", show_default=True, metavar="LOW..HIGH", help="Of areas.")
@click.option("--train", type=click.IntRange(2), default=20, show_default=True, help="Of areas: normal images.")
@click.option("--rival-python", metavar="PYTHON", help=f"Of anomalib: an interpreter that has {RIVAL}.")
@click.option("--output", type=click.Path(path_type=Path), help="Write all figures as JSON.")
@click.option("--child", hidden=True)
def main(
    parts: str,
    size: str,
    images: int,
    folds: int,
    ways: str,
    memory: str,
    backbones: str,
    weights: str,
    defect_area: str,
    train: int,
    rival_python: str | None,
    output: Path | None,
    child: str | None,
) -> None:
    """Print a table for each part."""
    if child is not None:
        what, *arguments = json.loads(child)
        functions: dict[str, Callable[..., Any]] = {
            "measure": measure,
            "differences": differences,
            "seams": seams,
            "areas": areas,
        }
        click.echo(json.dumps(functions[what](*arguments)))
        return
    for name, asked, possible in (("--parts", parts, PARTS), ("--ways", ways, WAYS)):
        if set(asked.split(",")) - set(possible):
            raise click.BadParameter(f"{asked!r}: expected some of {','.join(possible)}", param_hint=name)
    pixels = parse_size(size)
    height_width = (pixels, pixels) if isinstance(pixels, int) else pixels
    assert height_width is not None
    limit = parse_bytes("--memory", memory)
    low, high = map(int, defect_area.split(".."))
    of_backbones = [
        {"backbone": name, "weights": "default" if name == "builtin" else weights} for name in backbones.split(",")
    ]
    last = of_backbones[-1]
    calls: dict[str, Callable[[], Any]] = {
        "cost": lambda: [part_cost(height_width, images, folds, ways.split(","), limit, one) for one in of_backbones],
        "equality": lambda: part_equality(height_width),
        "seams": lambda: part_seams(height_width, last),
        "areas": lambda: part_areas(height_width, (low, high), train, limit, last),
        "anomalib": lambda: part_anomalib(height_width, images, rival_python or ""),
    }
    figures: dict[str, Any] = {"size": size, "memory": memory, "threads": os.environ.get("OMP_NUM_THREADS")}
    for part in parts.split(","):
        if part == "anomalib" and rival_python is None:
            click.echo(
                f"\nanomalib: left out. Install it beside padim-zoo: python -m venv rival && rival/bin/pip install "
                f"{RIVAL}, and give --rival-python rival/bin/python"
            )
            continue
        start = time.perf_counter()
        figures[part] = calls[part]()
        click.echo(f"\n{part}: {time.perf_counter() - start:.0f} s")
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
