"""The leaderboard: a table made of run documents, and of nothing else. docs/leaderboard.md describes its columns."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from padim_zoo.bench.costs import COSTS
from padim_zoo.bench.setting import Kind
from padim_zoo.bench.settings import SETTINGS
from padim_zoo.bench.status import DONE, PARTIAL, is_done
from padim_zoo.bench.store import Document, computed_precision, mean_over_folds
from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.core.suggest import suggest
from padim_zoo.metrics.metric import METRICS, Metric

MEAN = "mean"
"""The category of a row that averages over categories. A data set may have one of that name: see :func:`is_mean`."""


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    Attributes
    ----------
    name : str
    kind : str
        ``"text"``, ``"integer"`` or ``"number"``.
    better : str, optional
        Whether a ``"high"`` or a ``"low"`` value is better.
    """

    name: str
    kind: Kind = "text"
    better: Literal["high", "low"] | None = None


RATES: dict[str, Literal["high", "low"]] = {
    "promised_false_alarms": "low",
    "false_alarms": "low",
    "detections": "high",
    "worst_false_alarms": "low",
    "worst_detections": "high",
}
"""What the threshold from out-of-fold normal scores promises, does on test images, and at worst on corrupted ones."""
SHOWN_RATES = {
    "detections": "share of the anomalous test images above the threshold that normal images alone set",
    "false_alarms": "share of the normal test images above the threshold that normal images alone set",
}
"""Those that stand beside the main metrics, and what they are."""
CONFIGURED = {row.one: row.column for row in SETTINGS.values() if row.column is not None}
"""Columns of settings, and what they hold."""
MODEL = tuple(row.one for row in SETTINGS.values() if row.panel == "Models" and row.form in ("list", "repeated"))
"""What a reader knows a model by: detector, backbone, estimator, ensemble."""
NUMBERS = tuple(name for name, kind in CONFIGURED.items() if kind == "integer")
"""Columns of settings that are numbers, which need their name beside them."""
_TIMES = tuple(name for name, cost in COSTS.items() if cost.is_time)
HASHES = ("weights_hash", "data", "plugins")


def columns() -> tuple[Column, ...]:
    """The columns of every leaderboard, in order."""
    return (
        *(Column(name, kind) for name, kind in CONFIGURED.items()),
        *(Column(name) for name in ("precision_asked", "ensemble")),
        *(Column(name, "integer") for name in ("n_train", "n_test", "categories", "runs")),
        *(column for metric in METRICS.values() for column in metric_columns(metric)),
        Column("threshold", "number"),
        *(Column(name, "number", better) for name, better in RATES.items()),
        *(Column(name, "number", "low") for name in COSTS),
        *(Column(name) for name in ("status", "error", "notes", "id", *HASHES)),
        Column("results_version", "integer"),
    )


def metric_columns(metric: Metric) -> tuple[Column, ...]:
    """The mean of a metric over the folds, its standard deviation, and its confidence interval where it has one."""
    bounds = ("low", "high") if metric.interval is not None else ()
    return (
        Column(metric.name, "number", metric.better),
        *(Column(f"{metric.name}_{part}", "number") for part in ("std", *bounds)),
    )


def published_metrics() -> dict[str, str]:
    """The metrics that are published, and what published.csv calls them."""
    return {metric.name: metric.published for metric in METRICS.values() if metric.published is not None}


def published_column(name: str) -> str:
    """The column of the published value of a metric."""
    return f"published_{name}"


def difference_column(name: str) -> str:
    """The column of the difference between the measured and the published value of a metric."""
    return f"difference_{name}"


def better_values() -> dict[str, Literal["high", "low"]]:
    """Whether high or low values are better, of every column of which one is."""
    return {column.name: column.better for column in columns() if column.better}


CAME_OUT = ("precision", "runtime")
"""What ``auto`` may have come to otherwise elsewhere: shown wherever it differs, and averaged over."""
_KEYS = (*CONFIGURED, "precision_asked", "ensemble", *HASHES, "results_version")
"""The columns that tell runs apart."""

DEFINING = tuple(dict.fromkeys(metric.defined_by for metric in METRICS.values() if metric.defined_by is not None))
"""The settings that change what a metric measures."""
_SPLIT_ALWAYS = ("dataset", "ensemble", *DEFINING)
"""No average is taken over these: it would mean nothing."""

CONFIGURATION = tuple(name for name in _KEYS if name not in ("category", "seed", "data", *CAME_OUT))
"""What the runs of a mean row share; of the precision, what was asked for."""


def leaderboard(documents: Iterable[Document]) -> pd.DataFrame:
    """One row per run, then one mean row per configuration over its categories and seeds.

    A function of the documents alone, whatever their order. A configuration of a single run has no mean row. Where the
    data of a category have changed, each configuration keeps its runs on those of its newest run, and a note counts
    those left out.
    """
    entries = _newest(documents)
    mates = _grouped(entries, _all_but_seed)
    rows = [_run_row(entry, mates[_all_but_seed(entry)]) for entry in entries]
    return _frame(rows + _average(entries, CONFIGURATION, single=False))


def summarize(documents: Iterable[Document], by: Sequence[str]) -> pd.DataFrame:
    """One mean row for every combination of the values of some columns, over everything else.

    Different datasets, and ensembles and single detectors, are never averaged together.

    Parameters
    ----------
    documents : iterable of dict
    by : sequence of str
        Columns that tell runs apart, e.g. ``["backbone"]``.

    Raises
    ------
    InputError
        If a column is unknown or does not tell runs apart, as metrics do not.
    """
    for name in by:
        check_column(name, _KEYS)
    return _frame(_average(_newest(documents), list(dict.fromkeys([*_SPLIT_ALWAYS, *by]))))


def is_mean(row: Mapping[str, Any]) -> bool:
    """Whether a row is a mean and not a run: it has no id."""
    return not isinstance(row["id"], str)


def sort_rows(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Best first by one column, runs before mean rows, and rows without a value last of each.

    Raises
    ------
    InputError
        If the column is unknown.
    """
    check_column(by, [str(column) for column in frame.columns])
    rising = {column.name for column in columns() if column.better != "high"}
    ordered: pd.DataFrame = frame.sort_values(by, ascending=by in rising, kind="stable", na_position="last")
    # A mean row is no rival of the rows it is made of.
    ordered = ordered.sort_values("id", key=lambda ids: ids.isna(), kind="stable", ignore_index=True)
    return ordered


def check_column(name: str, columns: Sequence[str]) -> None:
    """Refuse a column that is not there.

    Raises
    ------
    InputError
        Naming the closest columns.
    """
    if name not in columns:
        raise InputError(f"unknown column {name!r}: {suggest(name, columns)}")


class _Entry:
    """A run document with the values that tell it apart, as the leaderboard shows them."""

    def __init__(self, document: Document) -> None:
        config, threshold, timings = document["config"], document.get("threshold", {}), document["timings"]
        self.document = document
        self.done = is_done(document)
        self.keys: dict[str, Any] = {
            **{name: config.get(name) for name in _KEYS},
            "weights": document.get("weights"),
            "precision": computed_precision(document),
            "precision_asked": config.get("precision"),
            "runtime": document.get("runtime"),
            "plugins": ", ".join(config.get("plugins") or ()) or None,
        }
        for row in SETTINGS.values():
            if row.recorded and row.column == "text":
                self.keys[row.one] = row.written(self.keys[row.one])
        self.category = str(self.keys["category"])
        self.values: dict[str, float] = {
            **{name: mean_over_folds(document, name) for name in METRICS},
            **{name: threshold.get(name, math.nan) for name in RATES},
            **{name: timings.get(name, math.nan) for name in COSTS},
        }
        # Numbers sort as numbers; what is missing sorts first.
        self.order = [
            (value is not None, value if isinstance(value, int) else 0, str(value))
            for value in (*(self.keys[name] for name in _KEYS), document["id"])
        ]

        self.asked = dict(self.keys)
        """The same as they were asked for: a grid that was left to the images differs between categories."""
        asked_resize = document.get("asked_resize")
        if asked_resize is not None:
            self.asked["resize"] = f"{asked_resize} by the images"
        self.left_out = 0
        """Runs of the same configuration and category on other, older data."""


def _all_but_seed(entry: _Entry) -> tuple[Any, ...]:
    """What the runs of one configuration on one category share."""
    return tuple(entry.asked[name] for name in ("category", *CONFIGURATION))


def _newest(documents: Iterable[Document]) -> list[_Entry]:
    """The runs in order, without those of a configuration on data of a category that it has newer runs of."""
    newest_entries: list[_Entry] = []
    for entries in _grouped(
        sorted(map(_Entry, documents), key=lambda entry: entry.order),
        _all_but_seed,
    ).values():
        data = max(entries, key=lambda entry: str(entry.document.get("created"))).keys["data"]
        current = [entry for entry in entries if entry.keys["data"] == data]
        current[0].left_out = len(entries) - len(current)
        newest_entries += current
    return sorted(newest_entries, key=lambda entry: entry.order)


def _left_out_note(entries: Sequence[_Entry]) -> list[str]:
    count = sum(entry.left_out for entry in entries)
    return [f"{number_of(count, 'older run')} on other data left out"] if count else []


ONE_DRAW = "one draw"
"""How the note begins of a row that rests on one seed although the seed decides."""


def one_draw_note(documents: Iterable[Document]) -> str | None:
    """What is to be said of runs of one seed in which something is drawn; None where several seeds tell, or none does.

    Folds of one seed share the draw of channels, and tell how much the normal images matter alone.
    """
    documents = list(documents)
    drawn = dict.fromkeys(part for document in documents for part in document.get("drawn", ()))
    if not drawn or len({document["config"].get("seed") for document in documents}) > 1:
        return None
    return f"{ONE_DRAW} of {', '.join(drawn)}: more --seeds show how much it moves the metrics"


def _one_draw_notes(entries: Sequence[_Entry]) -> list[str]:
    note = one_draw_note(entry.document for entry in entries if entry.done)
    return [note] if note else []


def _run_row(entry: _Entry, mates: Sequence[_Entry]) -> dict[str, Any]:
    document = entry.document
    error = document.get("error")
    return {
        **entry.keys,
        **_means([entry]),
        **document.get("interval", {}),
        **document.get("threshold", {}),
        "n_train": document.get("n_train"),
        "n_test": document.get("n_test"),
        "categories": 1,
        "runs": 1,
        "status": document["status"],
        "error": None if error is None else f"{error['type']}: {error['message']}",
        "notes": "; ".join([*document["notes"], *_one_draw_notes(mates), *_left_out_note([entry])]) or None,
        "id": document["id"],
    }


def _average(entries: Sequence[_Entry], by: Sequence[str], *, single: bool = True) -> list[dict[str, Any]]:
    """Mean rows by some columns; ``single`` keeps those that have one run because there is no more to average."""
    datasets = _grouped(entries, lambda entry: entry.keys["dataset"])
    rows = []
    for group in _grouped(entries, lambda entry: tuple(entry.asked[name] for name in by)).values():
        first = group[0].keys
        wanted = {entry.category for entry in (group if "category" in by else datasets[first["dataset"]])}
        if single or len(group) > 1 or len(wanted) > 1:
            rows.append({**_mean_row(group, wanted), "category": first["category"] if "category" in by else MEAN})
    return rows


def _mean_row(entries: Sequence[_Entry], wanted: set[str]) -> dict[str, Any]:
    """The mean over runs, which says how many failed, and which of the categories wanted lack runs or metrics."""
    done = [entry for entry in entries if entry.done]
    covered = {entry.category for entry in done}
    lacking = sorted(wanted - covered)
    notes = []
    if lacking:
        notes.append(f"mean over {len(covered)} of {len(wanted)} categories, without {', '.join(lacking)}")
    if len(done) < len(entries):
        notes.append(f"{len(entries) - len(done)} of {len(entries)} runs failed")
    # What all runs share is shown; what they differ in is averaged over.
    shared = {name: values.pop() for name in _KEYS if len(values := {entry.keys[name] for entry in entries}) == 1}
    return {
        **shared,
        **_means(done),
        **(dict.fromkeys(_TIMES, math.nan) if len(_processors(done)) > 1 else {}),
        "categories": len(covered),
        "runs": len(done),
        "status": PARTIAL if notes else DONE,
        "notes": "; ".join(
            [
                *notes,
                *_undefined_notes(done),
                *_precision_note(done),
                *_runtime_note(done),
                *_processor_note(done),
                *_one_draw_notes(done),
                *_left_out_note(entries),
            ]
        )
        or None,
    }


def _means(entries: Sequence[_Entry]) -> dict[str, float]:
    """Mean values of runs, and the standard deviation of metrics between repetitions.

    Every category counts alike, however many runs it has. A repetition is one fold of one seed. Those that lack a
    category are left out of the deviation, which would be between categories otherwise; of fewer than two there is
    none.
    """
    by_category = _grouped(entries, lambda entry: entry.category)
    row = {
        name: _mean([_mean([entry.values[name] for entry in group]) for group in by_category.values()])
        for name in (*METRICS, *RATES, *COSTS)
    }
    for name in METRICS:
        repetitions: dict[tuple[Any, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for entry in entries:
            for number, values in enumerate(entry.document["folds"]):
                repetitions[entry.keys["seed"], number][entry.category].append(values.get(name, math.nan))
        means = [
            _mean([_mean(values) for values in repetition.values()])
            for repetition in repetitions.values()
            if set(repetition) == set(by_category)
        ]
        row[f"{name}_std"] = _deviation(means)
    return row


def _grouped(entries: Iterable[_Entry], key: Callable[[_Entry], Any]) -> dict[Any, list[_Entry]]:
    groups: dict[Any, list[_Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)
    return groups


def _undefined_notes(entries: Sequence[_Entry]) -> list[str]:
    """Which categories keep a metric from having a mean; none where no category has it."""
    lacking: dict[tuple[str, ...], list[str]] = defaultdict(list)
    categories = {entry.category for entry in entries}
    for name in METRICS:
        without = {entry.category for entry in entries if math.isnan(entry.values[name])}
        if without and without != categories:
            lacking[tuple(sorted(without))].append(name)
    return [f"no mean of {', '.join(names)}: undefined in {', '.join(where)}" for where, names in lacking.items()]


def _precision_note(entries: Sequence[_Entry]) -> list[str]:
    """What ``"auto"`` came to, if that was not the same on all machines or for all networks."""
    counts = Counter(entry.keys["precision"] for entry in entries if entry.keys["precision_asked"] == "auto")
    return [f"precision auto was {_shares_of(counts)}"] if len(counts) > 1 else []


def _runtime_note(entries: Sequence[_Entry]) -> list[str]:
    """What ran the backbones, if that was not the same in all runs."""
    counts = Counter(entry.keys["runtime"] for entry in entries if entry.keys["runtime"] is not None)
    return [f"the runtime was {_shares_of(counts)}"] if len(counts) > 1 else []


def _shares_of(counts: Counter[str]) -> str:
    return " and ".join(f"{name} in {number_of(count, 'run')}" for name, count in sorted(counts.items()))


def _processors(entries: Sequence[_Entry]) -> Counter[str]:
    """What runs were computed on, and how many on each: times compare on one kind of machine alone."""
    environments = [entry.document.get("environment", {}) for entry in entries]
    return Counter(" with ".join(filter(None, (here.get("cpu"), here.get("gpu")))) or "?" for here in environments)


def _processor_note(entries: Sequence[_Entry]) -> list[str]:
    """That there is no mean of times, if they were measured on several processors."""
    counts = _processors(entries)
    shares = [f"{count} on {processor}" for processor, count in sorted(counts.items())]
    return [f"no mean of times: {', '.join(shares)}"] if len(counts) > 1 else []


def _mean(values: Sequence[float]) -> float:
    """NaN if there is no value, or if one of them is NaN: a metric that is undefined somewhere has no mean."""
    return math.fsum(values) / len(values) if values else math.nan


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample; NaN of fewer than two values. NumPy takes longer for so few."""
    if len(values) < 2:
        return math.nan
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows to a table with the documented columns and types; what a row lacks is empty."""
    types: dict[Kind, str] = {"text": "object", "integer": "Int64", "number": "float64"}
    series = {
        column.name: pd.Series([row.get(column.name) for row in rows], dtype=types[column.kind]) for column in columns()
    }
    board: pd.DataFrame = pd.DataFrame(series)
    return board
