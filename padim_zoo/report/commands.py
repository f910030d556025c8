"""The command that does a recorded run again."""

from __future__ import annotations

import shlex

from padim_zoo.bench.settings import SETTINGS
from padim_zoo.bench.store import Document


def reproducing_command(document: Document) -> str | None:
    """The command line that gives a run of the same id, up to the places of data and weights files.

    Those are no part of a run document: they stand as ``DATA``, ``ROI`` and as the name of the file. An ensemble has
    none of its own: it is its members' with ``--ensemble``.
    """
    config, weights = document["config"], document.get("weights")
    if config.get("ensemble") is not None:
        return None
    texts = {row.name: row.written(config.get(row.one)) for row in SETTINGS.values() if row.recorded}
    texts["data_root"] = None if config["dataset"] == "synthetic" else "DATA"
    texts["roi"] = None if config.get("roi") is None else "ROI"
    texts["weights"] = None if weights in (None, "default", "builtin", "embedded") else str(weights)
    words = ["padim-zoo", "bench"]
    for name, text in texts.items():
        if text is not None:
            words += [SETTINGS[name].option_in("bench"), text]
    return shlex.join(words)
