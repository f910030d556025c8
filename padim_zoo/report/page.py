"""A run store as one HTML page that needs no network: `padim-zoo report`."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from padim_zoo import __version__
from padim_zoo.bench.formats import records
from padim_zoo.bench.gallery import PER_REASON
from padim_zoo.bench.leaderboard import CONFIGURED, DEVIATING, RATES, TIMINGS, is_mean, leaderboard
from padim_zoo.bench.published import METRICS, add_published
from padim_zoo.bench.store import DamagedRunError, Document, RunStore
from padim_zoo.bench.table import shared_settings
from padim_zoo.core.errors import InputError, MissingExtraError
from padim_zoo.pictures.drawing import color_table
from padim_zoo.report.commands import reproducing_command
from padim_zoo.report.gallery import Pictures, collect

_MODEL = ("detector", "backbone", "estimator", "ensemble")
"""What a reader knows a configuration by."""

_FIRST, _LAST = ("weights", "layers", "train_size", "n_components", "reduction", "folds"), ("dataset", "seed")
_TELLING = (
    *_FIRST,
    *(name for name in (*CONFIGURED, "precision_asked") if name not in (*_MODEL, *_FIRST, *_LAST, "category")),
    *_LAST,
)
"""What tells runs apart besides, the most telling first."""

_SHOWN = ("dataset", "category", "status", "error", "notes", "id", "n_train", "n_test", "train_size", "seed")
_SCRIPTS = ("state", "leaderboard", "charts", "gallery", "zoom", "main")


class Report(NamedTuple):
    """The page, and one line for each file that it could not use."""

    page: str
    problems: list[str]


def render_report(store: RunStore, images: int = PER_REASON) -> Report:
    """The page of a run store.

    Parameters
    ----------
    store : RunStore
    images : int
        Images of each kind in the gallery of a run, at most; 0 for no gallery.

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
    contents = store.read_all()
    documents = contents.documents
    if not documents:
        raise InputError(f"{store.folder} has no runs: expected the output of padim-zoo bench")
    web = Path(__file__).with_name("web")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_read(web / "page.html.j2"))
    pictures = collect(store, sorted(documents, key=_image_auroc, reverse=True), images)
    data = report_data(store, documents, pictures)
    packed = gzip.compress(get_plotlyjs().encode(), mtime=0)
    page = template.render(
        data=_script_json(data),
        pictures=_script_json(pictures.pictures),
        plotly=base64.b64encode(packed).decode(),
        style=_read(web / "page.css"),
        script="".join(_read(web / f"{name}.js") for name in _SCRIPTS),
        version=__version__,
    )
    return Report(page, [*contents.problems, *data["problems"], *pictures.problems])


def report_data(store: RunStore, documents: Sequence[Document], pictures: Pictures | None = None) -> dict[str, Any]:
    """All that the page shows but its pictures, as JSON holds it.

    Returns
    -------
    dict
        ``rows`` of the leaderboard, each with the name of its configuration; ``runs``, by id, what is behind a row:
        figures of its folds, curves, scores, environment and command; what all rows share, and ``facets``, the
        settings by which they differ.
    """
    rows = records(add_published(leaderboard(documents)))
    runs = [row for row in rows if not is_mean(row)]
    told = _telling(runs)
    environments: list[dict[str, Any]] = []
    problems: list[str] = []
    behind = {}
    pictures = pictures or Pictures()
    for document in documents:
        behind[document["id"]] = _behind(store, document, environments, problems)
        behind[document["id"]]["gallery"] = pictures.by_run.get(document["id"])
        behind[document["id"]]["no_gallery"] = pictures.without.get(document["id"])
    return {
        "rows": [_row(row, told) for row in rows],
        "runs": behind,
        "figures": list(DEVIATING),
        "timings": list(TIMINGS),
        "facets": [name for name in told if name != "seed"],
        "common": shared_settings(rows),
        "environments": environments,
        "colors": color_table().tobytes().hex(),
        "problems": problems,
    }


def _row(row: dict[str, Any], told: Sequence[str]) -> dict[str, Any]:
    kept = {name: row[name] for name in (*_SHOWN, *told, "threshold", *RATES, *TIMINGS)}
    for name in DEVIATING:
        kept |= {name: row[name], f"{name}_std": row[f"{name}_std"]}
    kept |= {name: row[name] for name in ("image_auroc_low", "image_auroc_high", "published_source")}
    kept |= {f"published_{name}": row[f"published_{name}"] for name in METRICS}
    kept["mean"] = is_mean(row)
    # Seeds are runs of one configuration: rows of theirs belong to the mean row of the same name.
    kept["name"] = _name(row, [name for name in told if name != "seed"])
    kept["run_name"] = _name(row, told)
    kept["curve"] = _name(row, [name for name in told if name not in ("seed", "train_size")])
    return kept


def _telling(runs: Sequence[dict[str, Any]]) -> list[str]:
    """The columns that it takes to tell the runs of a category apart: what all share, or follows, is left out."""
    told = [name for name in _MODEL if len({row[name] for row in runs}) > 1]
    for name in _TELLING:
        apart = {tuple(str(row[key]) for key in ("category", *told)) for row in runs}
        if len({tuple(str(row[key]) for key in ("category", *told, name)) for row in runs}) > len(apart):
            told.append(name)
    return told


def _name(row: dict[str, Any], told: Sequence[str]) -> str:
    """The configuration of a row in a few words; what the models are needs no heading, numbers do."""
    parts = []
    for name in told if any(row[name] is not None for name in told) else _MODEL:
        if row[name] is None or (name == "seed" and is_mean(row)):
            continue
        bare = name in (*_MODEL, "layers", "weights")
        text = f"{row[name]} of members" if name == "ensemble" else str(row[name])
        parts.append(text if bare else f"{name.replace('_', ' ')} {row[name]}")
    return " · ".join(parts) or "one configuration"


def _behind(
    store: RunStore, document: Document, environments: list[dict[str, Any]], problems: list[str]
) -> dict[str, Any]:
    environment = document.get("environment") or {}
    # The speed of the machine, measured at every start, differs where nothing else does.
    momentary = ("calibration_seconds", "processor_share")
    environment = {name: value for name, value in environment.items() if name not in momentary}
    if environment not in environments:
        environments.append(environment)
    found: dict[str, Any] = {
        "folds": document["folds"],
        "environment": environments.index(environment),
        "command": reproducing_command(document),
        "created": document.get("created"),
    }
    if document["status"] == "done":
        try:
            arrays = store.scores(document["id"])
            # Folds score on scales of their own, but nearly the same: their mean is one curve instead of many.
            found |= curves(arrays["labels"], arrays["scores"].mean(0))
        except (DamagedRunError, KeyError) as error:
            problems.append(f"{error}: the page shows no curves of run {document['id']}")
            return found
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


def _image_auroc(document: Document) -> float:
    values = [fold.get("image_auroc", math.nan) for fold in document["folds"]]
    return float(np.mean(values)) if values and np.isfinite(values).all() else -1.0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


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
