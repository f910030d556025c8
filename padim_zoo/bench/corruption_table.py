"""What each run makes of corrupted images, as a table: a row for each amount of each corruption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from padim_zoo.bench.columns import telling_columns
from padim_zoo.bench.formats import records
from padim_zoo.bench.leaderboard import is_mean, leaderboard
from padim_zoo.bench.store import Document
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.metric import DEFAULT_METRIC

CORRUPTED = ("false_alarms", "detections", DEFAULT_METRIC)
"""What a run has of corrupted images."""

NO_CORRUPTIONS = "no run has corrupted images: padim-zoo bench --folds 5 --corruptions 'blur(1,2,4)'"


def corruption_table(documents: Sequence[Document]) -> pd.DataFrame:
    """One row for each run and amount, that of the clean images first.

    Returns
    -------
    DataFrame
        The columns that tell the runs apart; ``corruption``, such as ``blur(2)``, or ``none``; ``false_alarms`` and
        ``detections``, shares of the test images above the threshold of the clean fit; image AUROC; ``id``.

    Raises
    ------
    InputError
        If no run has corrupted images.
    """
    corrupted = {document["id"]: document["corruptions"] for document in documents if document.get("corruptions")}
    if not corrupted:
        raise InputError(NO_CORRUPTIONS)
    runs = [
        row
        for row in records(leaderboard([document for document in documents if document["id"] in corrupted]))
        if not is_mean(row)
    ]
    telling = telling_columns(runs)
    table: pd.DataFrame = pd.DataFrame(
        {
            **{name: run[name] for name in telling},
            "corruption": _written(part),
            **{name: part.get(name) for name in CORRUPTED},
            "id": run["id"],
        }
        for run in runs
        for part in corrupted[run["id"]]
    )
    return table


def _written(part: dict[str, Any]) -> str:
    return "none" if part["corruption"] is None else f"{part['corruption']}({part['amount']:g})"
