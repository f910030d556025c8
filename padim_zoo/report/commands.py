"""The command that does a recorded run again."""

from __future__ import annotations

import shlex
from typing import Any

from padim_zoo.bench.store import Document

_OPTIONS = {
    "detector": "detectors",
    "backbone": "backbones",
    "estimator": "estimators",
    "category": "categories",
    "seed": "seeds",
    "train_size": "train-sizes",
    "n_components": "n_components",
    "reduction": "reduction",
    "resize": "resize",
    "crop": "crop",
    "sigma": "sigma",
    "precision": "precision",
    "augment": "augment",
    "passes": "passes",
    "tta": "tta",
    "folds": "folds",
}
"""What a configuration calls a setting, and the option of padim-zoo bench that gives it."""


def reproducing_command(document: Document) -> str | None:
    """The command line that gives a run of the same id, up to the places of data and weights files.

    Those are no part of a run document: they stand as ``DATA``, ``ROI`` and as the name of the file. An ensemble has
    none of its own: it is its members' with ``--ensemble``.
    """
    config = document["config"]
    if config.get("ensemble") is not None:
        return None
    words = ["padim-zoo", "bench", "--dataset", config["dataset"]]
    if config["dataset"] != "synthetic":
        words += ["--data-root", "DATA"]
    for name, option in _OPTIONS.items():
        value = config.get(name)
        if value is not None or name == "crop":
            words += [f"--{option}", _text(value)]
    if config.get("layers"):
        words += ["--layers", ",".join(config["layers"])]
    if config.get("roi") is not None:
        words += ["--roi", "ROI"]
    weights = document.get("weights")
    if weights not in (None, "default", "builtin", "embedded"):
        words += ["--weights", str(weights)]
    return shlex.join(words)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
