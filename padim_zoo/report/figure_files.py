"""The figures of an evaluation as files: ``figures.csv``, a row each, and ``figures.json``, all that is known."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from padim_zoo.core.atomic_write import write_text_whole
from padim_zoo.core.jsonable import to_jsonable
from padim_zoo.metrics.metric import METRICS

COLUMNS = ("figure", "value", "low", "high")
"""Of ``figures.csv``; low and high are the ends of the 95 % interval, where there is one."""


def write_figures(
    folder: Path, document: Mapping[str, Any], intervals: Mapping[str, float], rates: Mapping[str, Any]
) -> None:
    """Write the figures of an evaluation into a folder.

    Parameters
    ----------
    folder : Path
    document : mapping
        What ``evaluate --json`` prints; the metrics are among it, by name.
    intervals : mapping of str to float
        ``NAME_low`` and ``NAME_high`` of metrics that have them.
    rates : mapping
        Detections and false alarms at the threshold that decides, as
        :func:`padim_zoo.metrics.rates_at_threshold` gives them.
    """
    rows = [(name, document[name], intervals.get(f"{name}_low"), intervals.get(f"{name}_high")) for name in METRICS]
    for name in ("detections", "false_alarms"):
        rate = rates[name] or {}
        rows.append((name, rate.get("rate"), rate.get("low"), rate.get("high")))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([name, *map(_cell, numbers)] for name, *numbers in rows)
    write_text_whole(folder / "figures.csv", text.getvalue())
    content = json.dumps(to_jsonable(document), indent=2, ensure_ascii=False)
    write_text_whole(folder / "figures.json", f"{content}\n")


def _cell(value: float | None) -> str:
    """All digits; nothing where a figure is not defined."""
    return "" if value is None or math.isnan(value) else repr(float(value))
