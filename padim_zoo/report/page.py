"""A run store as one HTML page that needs no network: `padim-zoo report`."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from padim_zoo import __version__
from padim_zoo.bench.columns import shared_settings, tell_apart
from padim_zoo.bench.costs import COSTS
from padim_zoo.bench.formats import records
from padim_zoo.bench.gallery import PER_REASON
from padim_zoo.bench.leaderboard import (
    CONFIGURED,
    DEFINING,
    MODEL,
    RATES,
    SHOWN_RATES,
    is_mean,
    leaderboard,
    metric_columns,
    published_column,
    published_metrics,
)
from padim_zoo.bench.published import add_published
from padim_zoo.bench.status import is_done
from padim_zoo.bench.store import DamagedRunError, Document, RunStore, mean_over_folds
from padim_zoo.core.errors import needs_extra
from padim_zoo.core.jsonable import to_jsonable
from padim_zoo.metrics.curves import image_curves
from padim_zoo.metrics.metric import DEFAULT_METRIC, METRICS, Metric, is_undefined_note
from padim_zoo.pictures.colormap import color_table
from padim_zoo.report.commands import reproducing_command
from padim_zoo.report.gallery import Pictures, collect
from padim_zoo.report.ties import ties_of

TITLE = "Anomaly detection benchmark"
"""The usual heading of a page."""

_LAST = ("dataset", "seed")
_TELLING = (*(name for name in CONFIGURED if name not in (*MODEL, *_LAST, "category")), "precision_asked", *_LAST)
"""What tells runs apart beside their models, the most telling first."""

_SHOWN = ("dataset", "category", "status", "error", "notes", "id", "n_train", "n_test", "train_size", "seed")
_SCRIPTS = ("state", "leaderboard", "charts", "gallery", "zoom", "main")


class Report(NamedTuple):
    """The page, and one line for each file that it could not use."""

    page: str
    problems: list[str]


def render_report(store: RunStore, images: int = PER_REASON, title: str = TITLE) -> Report:
    """The page of a run store.

    Parameters
    ----------
    store : RunStore
    images : int
        Images of each kind in the gallery of a run, at most; 0 for no gallery.
    title : str
        The heading of the page.

    Raises
    ------
    InputError
        If the store has no runs, or the packages of ``padim-zoo[report]`` are not installed.
    """
    with needs_extra("report", "a report"):
        from jinja2 import Environment, StrictUndefined
        from plotly.offline import get_plotlyjs
    contents = store.read_some()
    documents = contents.documents
    web = Path(__file__).with_name("web")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_read(web / "page.html.j2"))

    def figure(document: Document) -> float:
        return float(np.nan_to_num(mean_over_folds(document, DEFAULT_METRIC), nan=-np.inf))

    pictures = collect(store, sorted(documents, key=figure, reverse=True), images)
    data = report_data(store, documents, pictures)
    packed = gzip.compress(get_plotlyjs().encode(), mtime=0)
    page = template.render(
        data=_script_json(data),
        pictures=_script_json(pictures.pictures),
        plotly=base64.b64encode(packed).decode(),
        style=_read(web / "page.css"),
        script="".join(_read(web / f"{name}.js") for name in _SCRIPTS),
        version=__version__,
        title=title,
    )
    return Report(page, [*contents.problems, *data["problems"], *pictures.problems])


def report_data(store: RunStore, documents: Sequence[Document], pictures: Pictures | None = None) -> dict[str, Any]:
    """All that the page shows but its pictures, as JSON holds it.

    Returns
    -------
    dict
        ``rows`` of the leaderboard, each with the name of its configuration; ``runs``, by id, what is behind a row:
        metrics of its folds, corruptions, curves, scores, environment and command; ``metrics``, the METRICS table; what
        all rows share, and ``facets``, the settings by which they differ.
    """
    rows = records(add_published(leaderboard(documents)))
    runs = [row for row in rows if not is_mean(row)]
    telling = _telling(runs)
    environments: list[dict[str, Any]] = []
    problems: list[str] = []
    pictures = pictures or Pictures()
    nowhere = [name for name in METRICS if all(row[name] is None for row in rows)]
    shown = [_row(row, telling, nowhere) for row in rows]
    names = {row["id"]: row["run_name"] for row in shown}
    ties = ties_of(runs, store)
    return {
        "rows": [{**row, "ties": [names[one] for one in ties.get(row["id"], ())]} for row in shown],
        "runs": {document["id"]: _behind(store, document, pictures, environments, problems) for document in documents},
        "metrics": [_metric(metric) for metric in METRICS.values()],
        "rates": [{"name": name, "better": RATES[name], "help": text} for name, text in SHOWN_RATES.items()],
        "costs": [
            {"name": cost.name, "title": cost.heading.replace("\n", ", "), "help": cost.help} for cost in COSTS.values()
        ],
        "facets": [name for name in telling if name != "seed"],
        "common": shared_settings(rows),
        "environments": environments,
        "colors": color_table().tobytes().hex(),
        "problems": problems,
    }


def _metric(metric: Metric) -> dict[str, Any]:
    """A row of the METRICS table, as the page's scripts read it."""
    plain = {
        name: getattr(metric, name) for name in ("name", "title", "level", "better", "range", "main", "defined_by")
    }
    return {**plain, "published": metric.published is not None, "interval": metric.interval is not None}


def _row(row: dict[str, Any], telling: Sequence[str], nowhere: Sequence[str]) -> dict[str, Any]:
    """A row of the page; its notes do not tell why metrics are undefined that no row has, and that have no column."""
    measured = [column.name for metric in METRICS.values() for column in metric_columns(metric)]
    published = [*map(published_column, published_metrics()), "published_source"]
    names = (*_SHOWN, *telling, *DEFINING, *measured, "threshold", *RATES, *COSTS, *published)
    return {
        **{name: row[name] for name in names},
        "notes": "; ".join(note for note in (row["notes"] or "").split("; ") if not is_undefined_note(note, nowhere)),
        "mean": is_mean(row),
        # Seeds are runs of one configuration: rows of theirs belong to the mean row of the same name.
        "name": _name(row, [name for name in telling if name != "seed"]),
        "run_name": _name(row, telling),
        "curve": _name(row, [name for name in telling if name not in ("seed", "train_size")]),
    }


def _telling(runs: list[dict[str, Any]]) -> list[str]:
    """The columns that it takes to tell the runs of a category apart: what all share, or follows, is left out."""
    models = [name for name in MODEL if len({row[name] for row in runs}) > 1]
    return tell_apart(runs, _TELLING, ["category", *models])[1:]


def _name(row: dict[str, Any], telling: Sequence[str]) -> str:
    """The configuration of a row in a few words; what the models are needs no heading, numbers do."""
    parts = []
    for name in telling if any(row[name] is not None for name in telling) else MODEL:
        if row[name] is None or (name == "seed" and is_mean(row)):
            continue
        bare = name in (*MODEL, "layers", "weights")
        text = f"{row[name]} of members" if name == "ensemble" else str(row[name])
        parts.append(text if bare else f"{name.replace('_', ' ')} {row[name]}")
    return " · ".join(parts) or "one configuration"


def _behind(
    store: RunStore, document: Document, pictures: Pictures, environments: list[dict[str, Any]], problems: list[str]
) -> dict[str, Any]:
    """What is behind the row of a run; adds to the environments and the problems."""
    # The speed of the machine, measured at every start, differs where nothing else does.
    momentary = ("calibration_seconds", "processor_share")
    environment = {name: value for name, value in (document.get("environment") or {}).items() if name not in momentary}
    if environment not in environments:
        environments.append(environment)
    behind: dict[str, Any] = {
        "folds": document["folds"],
        "corruptions": document.get("corruptions", []),
        "environment": environments.index(environment),
        "command": reproducing_command(document),
        "created": document.get("created"),
        "gallery": pictures.by_run.get(document["id"]),
        "no_gallery": pictures.without.get(document["id"]),
    }
    if is_done(document):
        try:
            arrays = store.scores(document["id"])
            labels, scores = arrays["labels"], arrays["scores"].mean(0)
            drawn: dict[str, Any] = {
                name: _rounded(scores[labels == label]) for label, name in enumerate(("normal", "anomalous"))
            }
            drawn |= {name: [_rounded(values) for values in curve] for name, curve in run_curves(arrays).items()}
        except (DamagedRunError, LookupError, TypeError, ValueError) as error:
            problems.append(f"{error}: the page shows no curves of run {document['id']}")
        else:
            behind |= drawn
    return behind


def run_curves(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All curves (2, n) of a run by the names that the METRICS table has for them, each the mean of its folds.

    Parameters
    ----------
    arrays : dict
        ``labels`` (N,), ``scores`` (folds, N) and the curves of the pixels, which older stores lack.
    """
    pixels = {name.removesuffix("_curve"): curve for name, curve in arrays.items() if name.endswith("_curve")}
    return {**image_curves(arrays["labels"], arrays["scores"]), **pixels}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _rounded(values: np.ndarray) -> list[float]:
    """Five digits: enough for a picture."""
    return [float(f"{value:.5g}") for value in values]


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element that it stands in, whatever names it holds."""
    text = json.dumps(to_jsonable(value), ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
