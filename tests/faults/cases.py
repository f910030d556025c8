"""What is mangled, and by which command it is read."""

from __future__ import annotations

import json
import pickle
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from padim_zoo.export.digest import seal
from padim_zoo.export.metadata import UNSEALED
from tests.faults.mangle import damage, flip_header, rewrite, rewritten_model, rewritten_run

Mangle = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Case:
    """A file to mangle.

    Attributes
    ----------
    kind : str
        What the table calls it.
    file : Path
    mangle : callable
    arguments : list
        The command that reads it.
    same : bool
        Whether the command's output has to be what it is without the mangling, if it is accepted.
    """

    kind: str
    file: Path
    mangle: Mangle
    arguments: list[object]
    same: bool


def make_world(folder: Path) -> None:
    """Images, and a file of each kind that padim-zoo reads."""
    from padim_zoo import PaDiM
    from padim_zoo.bench.store import FORMAT, RunStore
    from padim_zoo.core.errors import MissingExtraError
    from padim_zoo.export.exporting import export
    from padim_zoo.export.runtimes import SUFFIXES

    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
    detector = PaDiM(n_components=8, resize=32, crop=32, device="cpu", cache=True)
    detector.fit(sorted((folder / "images").glob("*.png")))
    detector.calibrate()
    detector.save(folder / "model.safetensors")
    for form, suffix in SUFFIXES.items():
        with suppress(MissingExtraError):
            export(detector, folder / f"model{suffix}", form, images=[images[0]])
    store = RunStore(folder / "runs")
    for number in range(3):
        store.write(
            {
                "format": FORMAT,
                "id": f"{number:016x}",
                "status": "done",
                "created": "2026-01-01T00:00:00+00:00",
                "config": {
                    **{"dataset": "d", "category": "c", "detector": "padim", "backbone": "builtin", "seed": number},
                    **{"estimator": "full", "folds": 0, "layers": ["a"], "members": [], "plugins": [], "data": "f"},
                },
                "weights": "default",
                "precision": "float32",
                "n_train": 8,
                "n_test": 4,
                "cached_images": 0,
                "folds": [{"image_auroc": 0.5, "pixel_auroc": 0.7, "aupro": None}],
                "interval": {"low": 0.4, "high": 0.6},
                "threshold": {},
                "timings": {"fit_seconds": 0.3},
                "runtimes": [],
                "notes": ["a note"],
                "error": None,
                "environment": {"threads": 1},
            },
            {"labels": np.array([0, 1, 0, 1]), "scores": np.arange(4, dtype=np.float32)[None]},
        )
    statistics = [rng.random((8, 64), np.float32), np.repeat(np.eye(8, dtype=np.float32)[..., None], 64, 2)]
    (folder / "train.pkl").write_bytes(pickle.dumps(statistics))
    (folder / "channels.json").write_text(json.dumps(list(range(8))))


def rewritten_xml(others: Path) -> Mangle:
    """Rewrites one value of the metadata of an OpenVINO file, under a digest that is right."""

    def mangle(content: bytes, rng: random.Random) -> bytes:
        text = content.decode()
        [found] = re.findall(r'padim_zoo value="([^"]*)"', text)
        document = rewrite(json.loads(found.replace("&quot;", '"')), rng)
        plain = json.dumps(document | {"digest": UNSEALED}).replace("&", "&amp;").replace("<", "&lt;")
        return seal(text.replace(found, plain.replace('"', "&quot;")).encode(), [others.read_bytes()])

    return mangle


def cases(folder: Path, cache: Path, rng: random.Random) -> Iterator[Case]:
    """Cases without end, one of each kind after the other."""
    image = folder / "images" / "0.png"
    board = ["leaderboard", folder / "runs", "--format", "json"]
    report = ["report", folder / "runs", "-o", folder / "page.html"]
    options = ["--trust-pickle", "--backbone", "builtin", "--channels", folder / "channels.json", "--resize", "32"]
    load = ["import", folder / "train.pkl", "-o", folder / "imported.safetensors", *options, "--crop", "32"]
    model = folder / "model.safetensors"
    while True:
        for mangle in (damage, flip_header):
            yield Case("model", model, mangle, ["predict", model, image], True)
            for suffix in (".onnx", ".xml", ".bin", ".pt2"):
                file = folder / f"model{suffix}"
                if file.exists():
                    read_by = folder / "model.xml" if suffix == ".bin" else file
                    yield Case(f"export {suffix}", file, mangle, ["predict", read_by, image], True)
            entries = sorted(cache.rglob("*.safetensors"))
            if entries:
                yield Case("cache", rng.choice(entries), mangle, ["predict", model, image], True)
            yield Case("image", image, mangle, ["predict", model, image], False)
            yield Case("pickle", folder / "train.pkl", mangle, load, False)
            runs = sorted((folder / "runs").glob("*.json"))
            yield Case("run document", rng.choice(runs), mangle, board, False)
        yield Case("model, valid hashes", model, rewritten_model, ["predict", model, image], False)
        yield Case("run document, valid hashes", rng.choice(runs), rewritten_run, board, False)
        yield Case("run document, valid hashes", rng.choice(runs), rewritten_run, report, False)
        if (folder / "model.xml").exists():
            xml = folder / "model.xml"
            yield Case("export, valid hashes", xml, rewritten_xml(folder / "model.bin"), ["predict", xml, image], False)
