"""Commands that write, each with the folder of its own that it writes to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.faults.world import SMALL


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    Attributes
    ----------
    name : str
    arguments : list
    folder : Path
        All that it writes lies below.
    fresh : bool
        Whether it refuses, or skips, what is there already.
    copied : mapping
        Names of files in the folder, and of what they are copies when the command begins.
    """

    name: str
    arguments: list[object]
    folder: Path
    fresh: bool = False
    copied: Mapping[str, Path] = field(default_factory=dict)

    def prepare(self) -> None:
        """Bring about what the command finds."""
        if self.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for part in self.folder.rglob("*.part"):  # rows of a call that was killed, which the next one asks about
            part.unlink()
        for name, source in self.copied.items():
            shutil.copyfile(source, self.folder / name)


def writers(world: Path) -> list[Writer]:
    """One of each."""
    out, model, images, data = world / "out", world / "model.safetensors", world / "images", world / "data"
    runs, category = world / "runs", ["--data-root", data, "--category", "part"]
    bench = ["bench", "--data-root", data, "--estimators", "full", "--backbones", "builtin", "--quiet", *SMALL]
    pictures = ["--pictures", "overlay,heatmap"]
    load = ["--trust-pickle", "--backbone", "builtin", "--channels", world / "channels.json", *SMALL]
    regions = ["predict", model, images, "--threshold", 50]
    table: list[tuple[str, list[object]]] = [
        ("fit", ["fit", images, "-o", "m.safetensors", *SMALL]),
        ("update", ["update", world / "resumable.safetensors", world / "more", "-o", "m.safetensors"]),
        ("calibrate", ["calibrate", model, "--threshold", "3", "-o", "m.safetensors"]),
        ("combine", ["combine", model, world / "other.safetensors", "-o", "m.safetensors"]),
        ("merge", ["merge", world / "resumable.safetensors", world / "part.safetensors", "-o", "m.safetensors"]),
        ("import", ["import", world / "train.pkl", "-o", "m.safetensors", *load]),
        ("export onnx", ["export", model, "--format", "onnx", "-o", "m.onnx"]),
        ("export openvino", ["export", model, "--format", "openvino", "-o", "m.xml"]),
        ("export torch", ["export", model, "--format", "torch", "-o", "m.pt2"]),
        ("finetune", ["finetune", images, "-o", "m.safetensors", "--overwrite", *SMALL]),
        ("predict", ["predict", model, images, "-o", "", "--maps", "npy", *pictures]),
        ("predict --regions", [*regions, "--scores", "s.json", "--regions", "r.json"]),
        ("evaluate", ["evaluate", model, *category, "-o", "", *pictures]),
        ("bench", [*bench, "-o", ""]),
        ("leaderboard", ["leaderboard", runs, "-o", "b.csv"]),
        ("report", ["report", runs, "-o", "page.html"]),
        ("plot", ["plot", runs, "--kind", "histogram", "-o", "plot.png"]),
        ("check --update", ["check", runs, "--update", "--baseline", "b.json"]),
        ("check --history", ["check", runs, "--baseline", world / "baseline.json", "--history", "h.jsonl"]),
        ("compare", ["compare", runs, runs, "-o", "c.csv"]),
        ("data suspects", ["data", "suspects", images, "-o", "page.html", *SMALL]),
        ("forget", ["forget", "old.safetensors", images / "0.png", "--in-place"]),
        ("update --in-place", ["update", "old.safetensors", world / "more", "--in-place"]),
        ("new-plugin", ["new-plugin", "my-own", "--kind", "estimator", "-o", ""]),
        ("data synthetic", ["data", "synthetic", "", "--size", 32, "--train", 2, "--good", 1, "--categories", "gear"]),
    ]
    fresh = {"bench", "new-plugin", "data synthetic"}
    targets = {"-o", "--baseline", "--history", "--scores", "--regions", "synthetic", "forget", "update"}
    needs = {"export onnx": "onnxscript", "export openvino": "openvino"}
    made = []
    for name, arguments in table:
        if find_spec(needs.get(name, "torch")) is None:
            continue
        folder = out / name.replace(" ", "-")
        placed = [
            folder / argument
            if isinstance(argument, str) and position and arguments[position - 1] in targets
            else argument
            for position, argument in enumerate(arguments)
        ]
        copied = {"old.safetensors": world / "resumable.safetensors"} if "--in-place" in arguments else {}
        made.append(Writer(name, placed, folder, name in fresh, copied))
    return made
