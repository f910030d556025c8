"""A run store as one HTML page that needs no network: `padim-zoo report`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from padim_zoo import __version__
from padim_zoo.bench.formats import records
from padim_zoo.bench.leaderboard import DEVIATING, TIMINGS, is_mean, leaderboard
from padim_zoo.bench.published import METRICS, add_published
from padim_zoo.bench.store import Document, RunStore
from padim_zoo.errors import InputError, MissingExtraError
from padim_zoo.report.commands import reproducing_command

_MODEL = ("detector", "backbone", "estimator")
"""What every name of a configuration says."""

_TELLING = (
    *("ensemble", "weights", "layers", "train_size", "dims", "reduce", "folds", "resize", "crop", "sigma"),
    *("precision", "dataset", "seed"),
)
"""What it says besides where it takes that to tell runs apart, the most telling first."""

_SHOWN = ("category", "status", "error", "notes", "id", "n_train", "n_test", "train_size", "detector", "backbone")
_RATES = ("threshold", "promised_false_alarms", "false_alarms", "detections")


def render_report(store: RunStore) -> str:
    """The page.

    Raises
    ------
    InputError
        If the store has no runs, or the packages of ``padim-zoo[report]`` are not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtraError(str(error.name), "report", "a report") from None
    documents = store.read_all().documents
    if not documents:
        raise InputError(f"{store.folder} has no runs: expected the output of padim-zoo bench")
    template = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(template)
    return page.render(data=_script_json(report_data(store, documents)), plotly=get_plotlyjs(), version=__version__)


def report_data(store: RunStore, documents: Sequence[Document]) -> dict[str, Any]:
    """All that the page shows, as JSON holds it.

    Returns
    -------
    dict
        ``rows`` of the leaderboard, each with the name of its configuration; ``runs``, by id, what is behind a row:
        figures of its folds, curves, scores, environment and command.
    """
    rows = records(add_published(leaderboard(documents)))
    told = _telling([row for row in rows if not is_mean(row)])
    table = []
    for row in rows:
        kept = {name: row[name] for name in (*_SHOWN, *_RATES, *TIMINGS, "seed")}
        for name in DEVIATING:
            kept |= {name: row[name], f"{name}_std": row[f"{name}_std"]}
        kept |= {name: row[name] for name in ("image_auroc_low", "image_auroc_high", "published_source")}
        kept |= {f"published_{name}": row[f"published_{name}"] for name in METRICS}
        kept["mean"] = is_mean(row)
        kept["name"] = _name(row, told)
        kept["curve"] = _name(row, [name for name in told if name != "train_size"])
        table.append(kept)
    return {
        "rows": table,
        "runs": {document["id"]: _behind(store, document) for document in documents},
        "figures": list(DEVIATING),
        "timings": list(TIMINGS),
    }


def _telling(runs: Sequence[dict[str, Any]]) -> list[str]:
    """The columns that it takes to tell the runs of a category apart: what follows from others is left out."""
    told = list(_MODEL)
    for name in _TELLING:
        apart = {tuple(str(row[key]) for key in ("category", *told)) for row in runs}
        if len({tuple(str(row[key]) for key in ("category", *told, name)) for row in runs}) > len(apart):
            told.append(name)
    return told


def _name(row: dict[str, Any], told: Sequence[str]) -> str:
    """The configuration of a row in a few words; what the models are needs no heading, numbers do."""
    parts = []
    for name in told:
        if row[name] is None or (name == "seed" and is_mean(row)):
            continue
        bare = name in ("detector", "backbone", "estimator", "layers", "weights")
        parts.append(str(row[name]) if bare else f"{name.replace('_', ' ')} {row[name]}")
    return " · ".join(parts)


def _behind(store: RunStore, document: Document) -> dict[str, Any]:
    found: dict[str, Any] = {
        "folds": document["folds"],
        "environment": document.get("environment") or {},
        "command": reproducing_command(document),
        "created": document.get("created"),
    }
    if document["status"] == "done":
        arrays = store.scores(document["id"])
        # Folds score on scales of their own, but nearly the same: their mean is one curve instead of many.
        found |= curves(arrays["labels"], arrays["scores"].mean(0))
        for name in ("pro", "pixel_roc", "pixel_pr"):
            if f"{name}_curve" in arrays:  # older stores have none
                found[name] = [_rounded(values) for values in arrays[f"{name}_curve"]]
    return found


def curves(labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Scores of normal and anomalous images, and the ROC and precision-recall curves between them.

    Parameters
    ----------
    labels, scores : ndarray (N,)

    Returns
    -------
    dict
        ``normal`` and ``anomalous`` scores; ``roc``, false and true positive rates; ``pr``, recalls and precisions.
        No curves where one kind of image is missing.
    """
    anomalous = labels == 1
    found: dict[str, Any] = {"normal": _rounded(scores[~anomalous]), "anomalous": _rounded(scores[anomalous])}
    if anomalous.any() and not anomalous.all():
        from sklearn.metrics import precision_recall_curve, roc_curve

        false, true, _ = roc_curve(labels, scores)
        precision, recall, _ = precision_recall_curve(labels, scores)
        found |= {"roc": [_rounded(false), _rounded(true)], "pr": [_rounded(recall), _rounded(precision)]}
    return found


def _rounded(values: np.ndarray) -> list[float]:
    """Five digits: enough for a picture."""
    return [float(f"{value:.5g}") for value in values]


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element that it stands in, whatever names it holds."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: Any) -> Any:
    """NaN, which JSON lacks, as null."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
