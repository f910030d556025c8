"""What is attacked: images, a data set, and a file of each kind that padim-zoo reads."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = ["--resize", 32, "--crop", 32]
"""Options that make a fit quick."""


def make_world(folder: Path) -> None:
    """Make it in a folder that is not there."""
    import torch
    from safetensors.torch import save_file

    from padim_zoo import PaDiM
    from padim_zoo.cli.main import main
    from padim_zoo.core.errors import MissingExtraError
    from padim_zoo.export.exporting import export
    from padim_zoo.export.suffixes import SUFFIXES
    from padim_zoo.registry import backbones

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        _save(image, folder / "images" / f"{number}.png")
        _save(image[::-1], folder / "more" / f"{number}.png")
        _save(image[:, ::-1], folder / "data" / "part" / "train" / "good" / f"{number}.png")
    for number, image in enumerate(images[:3]):
        marked = np.zeros((32, 32), dtype=np.uint8)
        marked[8:16, 8:16] = 255
        _save(image // 2, folder / "data" / "part" / "test" / "good" / f"{number}.png")
        _save(image | marked[:, :, None], folder / "data" / "part" / "test" / "dent" / f"{number}.png")
        _save(marked, folder / "data" / "part" / "ground_truth" / "dent" / f"{number}_mask.png")

    paths = sorted((folder / "images").glob("*.png"))
    make_padim = partial(PaDiM, resize=32, crop=32, device="cpu", precision="float32")
    detector = make_padim(n_components=8, cache=True)
    detector.fit(paths)
    detector.calibrate()
    detector.save(folder / "model.safetensors")
    for name, source in [("resumable", "images"), ("part", "more")]:
        fitted = make_padim(n_components=8).fit(sorted((folder / source).glob("*.png")))
        fitted.calibrate()
        fitted.save(folder / f"{name}.safetensors", resumable=True)
    other = make_padim(n_components=9, estimator="ledoit-wolf").fit(paths)
    other.calibrate()
    other.save(folder / "other.safetensors")
    for form, suffix in SUFFIXES.items():
        with suppress(MissingExtraError):
            export(detector, folder / f"model{suffix}", form, images=[images[0]])
    state = {name: tensor.clone() for name, tensor in backbones.create("builtin").state_in_use().items()}
    save_file(state, folder / "weights.safetensors")
    torch.save(state, folder / "weights.pth")

    bench = ["bench", "--data-root", folder / "data", "--estimators", "full,diagonal", "--backbones", "builtin"]
    for arguments in (
        [*bench, "--quiet", "-o", folder / "runs", *SMALL],
        ["check", folder / "runs", "--update", "--baseline", folder / "baseline.json"],
    ):
        main([str(argument) for argument in arguments], standalone_mode=False)
    (folder / "suite.yaml").write_text("estimators: [full]\nbackbones: builtin\nseeds: 0\nfolds: 1\n")
    statistics = [rng.random((8, 64), np.float32), np.repeat(np.eye(8, dtype=np.float32)[..., None], 64, 2)]
    (folder / "train.pkl").write_bytes(pickle.dumps(statistics))
    (folder / "channels.json").write_text(json.dumps(list(range(8))))


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
