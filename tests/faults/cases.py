"""What is done to files and folders, and by which command they are read."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from safetensors.numpy import load_file

from padim_zoo.export.metadata import UNSEALED, seal
from tests.faults.hostile import (
    cut_at_boundary,
    hostile_pickle,
    image_bytes,
    odd_folder,
    odd_name,
    weights_bytes,
)
from tests.faults.mangle import damage, flip_header, rewrite, rewritten_model, rewritten_run
from tests.faults.world import SMALL

Mangle = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Case:
    """Something to do to the world, and a command.

    Attributes
    ----------
    kind : str
        What the table calls it.
    arguments : list
        The command.
    spoil : callable
        Does it.
    file : Path or None
        The file of the world that is changed by it, and restored afterwards.
    same : str
        What the command must give if it takes what was made of the file: ``"scores"``, those of the whole file;
        ``"others"``, those of the other images; ``"rows"``, no row of a leaderboard that is not one of the whole
        store's; ``""``, whatever it likes.
    """

    kind: str
    arguments: list[object]
    spoil: Callable[[], None]
    file: Path | None = None
    same: str = ""


def rewritten_xml(others: Path) -> Mangle:
    """Rewrites one value of the metadata of an OpenVINO file, under a digest that is right."""

    def mangle(content: bytes, rng: random.Random) -> bytes:
        text = content.decode()
        [found] = re.findall(r'padim_zoo value="([^"]*)"', text)
        document = rewrite(json.loads(found.replace("&quot;", '"')), rng)
        plain = json.dumps(document | {"digest": UNSEALED}).replace("&", "&amp;").replace("<", "&lt;")
        return seal(text.replace(found, plain.replace('"', "&quot;")).encode(), [others.read_bytes()])

    return mangle


def cases(world: Path, cache: Path, room: Path, pwned: Path, rng: random.Random) -> Iterator[Case]:
    """Cases without end, one of each kind after the other; new files lie in ``room``."""
    image, model = world / "images" / "0.png", world / "model.safetensors"
    predict, board = ["predict", model, image], ["leaderboard", world / "runs", "--format", "json"]
    report = ["report", world / "runs", "-o", room / "page.html"]
    options = ["--trust-pickle", "--backbone", "builtin", "--channels", world / "channels.json", *SMALL]
    load = ["import", world / "train.pkl", "-o", room / "imported.safetensors", *options]
    check = ["check", world / "runs", "--baseline", world / "baseline.json"]
    data = ["--data-root", world / "data", "--estimators", "full", "--backbones", "builtin"]
    bench = ["bench", *data, "--config", world / "suite.yaml", "-o", room / "runs", *SMALL]
    state = load_file(world / "weights.safetensors")

    def changed(kind: str, file: Path, mangle: Mangle, arguments: list[object], same: str = "") -> Case:
        return Case(kind, arguments, lambda: _write(file, mangle(file.read_bytes(), rng)), file, same)

    def readers(folder: Path) -> list[list[object]]:
        return [
            ["predict", model, folder, "--format", rng.choice(["csv", "json"])],
            ["predict", model, folder, "-o", room / "out", "--pictures", "overlay", "--maps", "npy"],
            ["fit", folder, "-o", room / "m.safetensors", *SMALL, "--no-cache"],
            ["update", world / "resumable.safetensors", folder, "-o", room / "m.safetensors"],
            ["data", "check", folder],
            ["fit", world / "images", "--roi", folder, "-o", room / "m.safetensors", *SMALL],
        ]

    def among_images() -> None:
        _images(room / "images", world)
        _write(room / "images" / "9.png", image_bytes(rng))

    def as_mask() -> None:
        _tree(room / "set", world)
        _write(room / "set" / "part" / "ground_truth" / "dent" / "0_mask.png", image_bytes(rng))

    def named() -> None:
        _images(room / "images", world)
        for _ in range(3):
            with suppress(OSError):  # a name that this disk does not take
                _write(room / "images" / odd_name(".png", rng), image.read_bytes())

    def named_category() -> None:
        _tree(room / "set", world)
        name, category = odd_name("", rng), odd_name("", rng)
        with suppress(OSError):
            (room / "set" / "part" / "test" / "dent").rename(room / "set" / "part" / "test" / name)
            (room / "set" / "part" / "ground_truth" / "dent").rename(room / "set" / "part" / "ground_truth" / name)
            (room / "set" / "part").rename(room / "set" / category)

    while True:
        runs = sorted((world / "runs").glob("*.json"))
        arrays = sorted((world / "runs").glob("*.safetensors"))
        for mangle in (damage, flip_header, cut_at_boundary):
            yield changed("model", model, mangle, predict, "scores")
            for suffix in (".onnx", ".xml", ".bin", ".pt2"):
                file = world / f"model{suffix}"
                if file.exists():
                    read_by = world / "model.xml" if suffix == ".bin" else file
                    yield changed(f"export {suffix}", file, mangle, ["predict", read_by, image], "scores")
            entries = sorted(cache.rglob("*.safetensors"))
            if entries:
                yield changed("cache", rng.choice(entries), mangle, predict, "scores")
            yield changed("image", image, mangle, predict)
            yield changed("pickle", world / "train.pkl", mangle, load)
            yield changed("run document", rng.choice(runs), mangle, board, "rows")
            yield changed("run arrays", rng.choice(arrays), mangle, report)
            yield changed("baseline", world / "baseline.json", mangle, check, "scores")
            yield changed("suite", world / "suite.yaml", mangle, ["bench", *bench[1:], "--no-gallery"])
            for suffix in (".pth", ".safetensors"):
                fit = ["fit", world / "images", "--weights", world / f"weights{suffix}", *SMALL]
                yield changed(
                    f"weights {suffix}", world / f"weights{suffix}", mangle, [*fit, "-o", room / "m.safetensors"]
                )
            images = room / "images"
            for arguments in readers(images)[:5]:
                same = "others" if arguments[0] == "predict" and "-o" not in arguments else ""
                yield Case(f"image, hostile: {arguments[0]}", arguments, among_images, same=same)
            part = ["--data-root", room / "set"]
            yield Case("mask, hostile", ["evaluate", model, *part, "--category", "part"], as_mask)
        yield changed("model, valid hashes", model, rewritten_model, predict)
        yield changed("model, valid hashes", model, rewritten_model, ["show", model])
        yield changed("model, valid hashes", model, rewritten_model, ["export", model, "-o", room / "m.onnx"])
        resumable = world / "resumable.safetensors"
        update = ["update", resumable, world / "more", "-o", room / "m.safetensors"]
        yield changed("model, valid hashes", resumable, rewritten_model, update)
        yield changed("run document, valid hashes", rng.choice(runs), rewritten_run, board)
        yield changed("run document, valid hashes", rng.choice(runs), rewritten_run, report)
        yield changed("baseline, valid hashes", world / "baseline.json", rewritten_run, check)
        yield changed("pickle, hostile", world / "train.pkl", lambda _, rng: hostile_pickle(pwned, rng), load)
        pth = world / "weights.pth"
        fit = ["fit", world / "images", "--weights", pth, *SMALL, "-o", room / "m.safetensors"]
        for arguments in (fit, fit, ["show", pth]):
            yield changed(
                "weights, hostile", pth, lambda whole, rng: weights_bytes(whole, state, pwned, rng), arguments
            )
        if (world / "model.xml").exists():
            xml = world / "model.xml"
            yield changed("export, valid hashes", xml, rewritten_xml(world / "model.bin"), ["predict", xml, image])
        for arguments in readers(room / "images"):
            spoil = partial(odd_folder, room / "images", image.read_bytes(), rng)
            yield Case(f"folder: {arguments[0]}", arguments, spoil)
        for arguments in readers(room / "images")[:5]:
            yield Case(f"names: {arguments[0]}", arguments, named)
        for arguments in (
            ["bench", *part, *data[2:], *SMALL, "-o", room / "runs", "--no-cache"],
            ["evaluate", model, *part, "-o", room / "out", "--pictures", "panel"],
            ["data", "check", room / "set", "--json"],
        ):
            yield Case(f"names: {arguments[0]}", arguments, named_category)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _images(folder: Path, world: Path) -> None:
    for source in sorted((world / "images").iterdir())[:3]:
        _write(folder / source.name, source.read_bytes())


def _tree(folder: Path, world: Path) -> None:
    for source in (world / "data").rglob("*.png"):
        _write(folder / source.relative_to(world / "data"), source.read_bytes())
