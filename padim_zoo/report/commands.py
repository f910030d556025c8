"""The command that does a recorded run again."""

from __future__ import annotations

import shlex
from typing import Any

from padim_zoo.bench.settings import SETTINGS
from padim_zoo.bench.store import Document


def reproducing_command(document: Document) -> str:
    """The command line that gives a run of the same id, up to the places of data and weights files.

    Those are no part of a run document: they stand as ``DATA``, ``ROI`` and as the name of the file. That of an
    ensemble does the runs of its members too.
    """
    config = document["config"]
    texts: dict[str, Any] = {row.name: row.written(config.get(row.one)) for row in SETTINGS.values() if row.recorded}
    texts["data_root"] = None if config["dataset"] == "synthetic" else "DATA"
    texts["roi"] = None if config.get("roi") is None else "ROI"
    texts["weights"] = _weights_file(document.get("weights"))
    if config.get("ensemble") is not None:
        texts |= _of_ensemble(config, str(document.get("weights")))
    words = ["padim-zoo", "bench"]
    for name, text in texts.items():
        for part in [text] if isinstance(text, str) else text or ():
            words += [SETTINGS[name].option_in("bench"), part]
    return shlex.join(words)


def _of_ensemble(config: dict[str, Any], weights: str) -> dict[str, Any]:
    """The settings in which members differ: backbones and estimators have theirs, and of each backbone its layers.

    What else differs, such as the reduction, is a default of the backbone.
    """
    differing = config["members"][0]
    members = [{**config, **member} for member in config["members"]]
    settings: dict[str, Any] = {row.name: None for row in SETTINGS.values() if row.one in differing}
    settings |= {
        "ensemble": "+".join(":".join(filter(None, (part["backbone"], part.get("estimator")))) for part in members),
        "rule": config["ensemble"],
        "backbones": members[0]["backbone"],
        "estimators": members[0].get("estimator"),
    }
    if "layers" in differing:
        settings["layers"] = [f"{part['backbone']}={','.join(part['layers'] or ())}" for part in members]
    if "+" in weights:
        files = zip(members, map(_weights_file, weights.split("+")), strict=False)
        settings["weights"] = [f"{part['backbone']}={file}" for part, file in files if file is not None]
    return settings


def _weights_file(label: str | None) -> str | None:
    """The file of weights that a label names; none stands for the default ones."""
    return None if label in (None, "default", "builtin", "embedded") else label
