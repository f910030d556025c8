"""Published figures beside measured ones: what the paper, the official code and others report for the same detector.

The figures are facts, each with its source, in published.csv beside this module. The METRICS table says which of its
metrics is comparable with which of ours. A single class of image AUROC swings by 0.10 with the channels drawn: compare
means first.
"""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from padim_zoo.bench.formats import records
from padim_zoo.bench.leaderboard import MEAN, difference_column, is_mean, published_column, published_metrics
from padim_zoo.bench.specs import canonical_estimator
from padim_zoo.bench.status import DONE

_DATASET = "mvtec"
_CATEGORIES = 15
_KINDS = ("paper", "official", "reimpl")
"""Whose figure is taken where there are several, first to last."""

_PAPER_COMPONENTS = {"resnet18": 100, "wide_resnet50_2": 550}

_GEOMETRY = {"resize": "256", "crop": "224"}
"""What all publications share; a detector that does not take an option has none. Not the precision, which they do not
state: figures move by less through bfloat16 than between two publications."""

_PADIM = {"sigma": "4", "layers": "layer1,layer2,layer3", "reduction": "random"}
"""The paper's settings, and those of its reimplementations."""


@cache
def published_figures() -> pd.DataFrame:
    """All figures: system, backbone, config, metric, kind, category, value, source and note."""
    figures: pd.DataFrame = pd.read_csv(Path(__file__).with_name("published.csv"), keep_default_na=False)
    return figures


def add_published(board: pd.DataFrame) -> pd.DataFrame:
    """A leaderboard with published figures in new columns at its end.

    A row has some if its dataset is ``mvtec``, its category one of MVTec AD's (or the mean over all of them), and it is
    a single detector with the settings of its paper, fitted on all normal images. Weights are not compared, except that
    random ones have no published figure.

    Returns
    -------
    DataFrame
        ``published_METRIC`` of every metric that is published, and ``published_source``: for each who reports it
        (system, kind) and where; and ``difference_METRIC``, measured less published.
    """
    figures = [_figures_for(row) for row in records(board)]
    columns = pd.DataFrame(figures, columns=[*map(published_column, published_metrics()), "published_source"])
    for name in published_metrics():
        columns[difference_column(name)] = board[name].to_numpy() - columns[published_column(name)].to_numpy(float)
    beside: pd.DataFrame = pd.concat([board, columns.set_index(board.index)], axis="columns")
    return beside


def _figures_for(row: dict[str, Any]) -> dict[str, Any]:
    metrics = published_metrics()
    figures: dict[str, Any] = {published_column(name): math.nan for name in metrics}
    sources: dict[str, list[str]] = {}
    if _comparable(row):
        table = published_figures()
        # "padim" is the paper's own, "padim-anomalib" a reimplementation.
        systems = table["system"].str.fullmatch(rf"{re.escape(row['detector'])}(-.*)?")
        table = table[systems & (table["backbone"] == _architecture(row)) & (table["category"] == row["category"])]
        table = table.sort_values("kind", key=lambda kinds: kinds.map(_KINDS.index), kind="stable")
        for name, published_name in metrics.items():
            rows = table[table["metric"] == published_name]
            if len(rows):
                first = rows.iloc[0]
                figures[published_column(name)] = float(first["value"])
                sources.setdefault(f"{first['system']} ({first['kind']}), {first['source']}", []).append(name)
    text = "; ".join(f"{', '.join(names)}: {source}" for source, names in sources.items())
    return {**figures, "published_source": text or None}


def _comparable(row: dict[str, Any]) -> bool:
    single = row["dataset"] == _DATASET and row["ensemble"] is None and row["folds"] == 1
    if not single or row["weights"] in ("none", "builtin"):
        return False
    whole = is_mean(row) and row["categories"] == _CATEGORIES and row["status"] == DONE
    if row["category"] == MEAN and not whole:
        return False
    if row["detector"] != "padim":
        return all(row[name] in (value, None) for name, value in _GEOMETRY.items())
    estimator = row["estimator"] or ""  # the paper's with its epsilon, however it is written
    return (
        all(row[name] == value for name, value in (_GEOMETRY | _PADIM).items())
        and row["n_components"] == _PAPER_COMPONENTS.get(_architecture(row))
        and estimator.partition("(")[0] == "full"
        and canonical_estimator(estimator) == "full"
    )


def _architecture(row: dict[str, Any]) -> str:
    return (row["backbone"] or "").removeprefix("torchvision/")
