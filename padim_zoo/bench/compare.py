"""Two runs, or two run stores run by run: what differs, by how much, and whether that is more than chance.

Of a pair, the second run is compared with the first: every difference is B − A, and positive where B has more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from padim_zoo.bench.leaderboard import MEAN, MODEL, NUMBERS, one_draw_note
from padim_zoo.bench.status import is_done
from padim_zoo.bench.store import Document, RunStore, computed_precision, mean_over_folds
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.confidence import PairedDifference, paired_images, student_test
from padim_zoo.metrics.metric import METRICS, Metric, main_metrics, per_image_array

LEVEL = 0.05
"""Differences are significant at this level, over all pairs together."""

LARGEST_DIFFERENCE = 1.0
"""Of two values from 0 to 1. An interval of a mean that reaches beyond is none."""

_NAMING = (*MODEL, *NUMBERS)
_ALWAYS_SHARED = ("dataset", "category", "data", "seed")
"""A pair agrees in these: scores of other images, or of other draws, are not paired."""


def compare_stores(first: RunStore, second: RunStore) -> pd.DataFrame:
    """Pair the runs of two stores and compare each pair on its test images.

    Runs are pairs if their configurations agree in all but the settings that the stores as wholes differ in: the
    backbone, say, where one store has resnet18 throughout and the other wide_resnet50_2. Runs without a partner are
    left out and counted.

    Returns
    -------
    DataFrame
        One row per pair: ``category``; ``run``, what they share; ``METRIC_a`` and ``METRIC_b`` of the metric that has
        a paired comparison, image AUROC; its ``difference``, B − A, with the 95 % interval ``low`` to ``high`` (paired
        stratified bootstrap of the test images) and the ``p_value`` of DeLong's test; ``significant``, at 0.05 over
        all pairs together (Holm); ``METRIC_difference`` of every other metric. Of a metric that has a value of each
        image, AUPIMO, ``METRIC_low``, ``METRIC_high``, ``METRIC_p_value`` and ``METRIC_significant`` too (bootstrap of
        the images, Wilcoxon's signed-rank test). No interval is without width: where one is not defined, it is NaN.
        Where there are several categories, a last row ``mean``: its intervals and p-values are those of Student's t
        over the categories, without an interval that reaches beyond 1, the largest difference. ``attrs`` holds
        ``differing``, the settings that the stores differ in, with their values in the pairs, ``unpaired``, how many
        runs of A and of B have no partner, and ``draw``, the draw that no interval covers, or None.

    Raises
    ------
    InputError
        If there are no pairs, or a run has several partners.
    """
    a, b = (store.read_done() for store in (first, second))
    computed_a, computed_b = (_as_computed(documents) for documents in (a, b))
    if not set(_values(a, "precision")) & set(_values(b, "precision")):  # auto is whatever it came to
        a, b = computed_a, computed_b
    differing = _differing(a, b)
    seeds = {document["config"].get("seed") for document in (*a, *b)}
    mine, partners = (_by_key(side, differing, store, seeds) for side, store in ((a, first), (b, second)))
    # Two runs in which nothing is drawn are partners under every seed, and are one pair.
    shared = list({(mine[key]["id"], partners[key]["id"]): key for key in mine if key in partners}.values())
    if not shared:
        raise InputError(
            f"no run of {first.folder} has a partner in {second.folder}: expected runs of the same categories and "
            "seeds on the same images"
        )
    naming = [name for name in _NAMING if name not in differing]
    rows = [
        {
            "category": mine[key]["config"]["category"],
            "run": _describe(mine[key]["config"], naming),
            **_compare(first, mine[key], second, partners[key]),
        }
        for key in shared
    ]
    for prefix in _prefixes():
        for row, significant in zip(rows, holm([row[f"{prefix}p_value"] for row in rows]), strict=True):
            row[f"{prefix}significant"] = significant
    rows.sort(key=lambda row: (row["category"], row["run"]))
    if len({row["category"] for row in rows}) > 1:
        rows.append(_mean_row(rows))
    comparison: pd.DataFrame = pd.DataFrame(rows)
    compared = [[side[key] for key in shared] for side in (mine, partners)]
    if any(computed_precision(mine[key]) != computed_precision(partners[key]) for key in shared):
        differing = list(dict.fromkeys([*differing, "precision"]))
        compared = [_as_computed(side) for side in compared]
    comparison.attrs = {
        "differing": {name: (_values(compared[0], name), _values(compared[1], name)) for name in differing},
        "unpaired": tuple(
            len(side) - len({keyed[key]["id"] for key in shared}) for side, keyed in ((a, mine), (b, partners))
        ),
        "draw": draw_not_covered([mine[key] for key in shared], [partners[key] for key in shared]),
    }
    return comparison


def compare_runs(store: RunStore, documents: Sequence[Document], first: str, second: str) -> pd.DataFrame:
    """Compare two runs of one store on their test images.

    Parameters
    ----------
    store : RunStore
    documents : sequence of dict
        Those of the store.
    first, second : str
        Ids of runs, or as much of their beginning as tells them from others.

    Returns
    -------
    DataFrame
        One row: ``category``; ``a``, ``b``, what the runs are; their ids ``id_a`` and ``id_b``; and the comparison, as
        :func:`compare_stores` makes it.

    Raises
    ------
    InputError
        If an id is that of no run or of several, or the runs failed or have other test images.
    """
    a, b = (_find(documents, run_id) for run_id in (first, second))
    if a["id"] == b["id"]:
        raise InputError(f"{first} and {second} are the same run: give the ids of two")
    row = {
        "category": a["config"]["category"],
        "a": _describe(a["config"], _NAMING),
        "b": _describe(b["config"], _NAMING),
        "id_a": a["id"],
        "id_b": b["id"],
    }
    comparison: pd.DataFrame = pd.DataFrame([row | _compare(store, a, store, b)])
    comparison.attrs = {"draw": draw_not_covered([a], [b])}
    return comparison


def describe_comparison(comparison: pd.DataFrame) -> str:
    """What :func:`compare_runs` found, for a reader."""
    row, metric = comparison.iloc[0].to_dict(), paired_metric()
    others = [
        f"{METRICS[name].title} {row[column]:+.4f}{_told_test(row, f'{name}_')}"
        for name, column in other_differences().items()
        if not math.isnan(row[column])
    ]
    return (
        f"{row['category']}, {metric.title}\n"
        f"A {row[f'{metric.name}_a']:.4f}  {row['a']}\n"
        f"B {row[f'{metric.name}_b']:.4f}  {row['b']}\n"
        f"B − A = {row['difference']:+.4f}{_told_test(row, '')}{''.join(f'; {other}' for other in others)}\n"
        + (f"{comparison.attrs['draw']}\n" if comparison.attrs["draw"] else "")
    )


def draw_not_covered(*sides: Sequence[Document]) -> str | None:
    """What intervals and p-values leave out where one seed alone has drawn; None where none has."""
    notes = dict.fromkeys(note for note in map(one_draw_note, sides) if note is not None)
    return None if not notes else f"intervals and p-values do not cover the draw; {'; '.join(notes)}"


def _told_test(row: Mapping[Any, Any], prefix: str) -> str:
    """Interval and p-value of a difference, as far as there are any."""
    low, high, p_value = (row.get(f"{prefix}{name}", math.nan) for name in ("low", "high", "p_value"))
    interval = "" if math.isnan(low) else f", 95 % interval {low:+.4f} to {high:+.4f}"
    return interval + ("" if math.isnan(p_value) else f", p = {p_value:.3g}")


def paired_metric() -> Metric:
    """The metric that has a paired comparison."""
    return next(metric for metric in METRICS.values() if metric.paired is not None)


def other_differences() -> dict[str, str]:
    """The other main metrics, and the columns of their differences."""
    return {name: f"{name}_difference" for name in main_metrics() if METRICS[name].paired is None}


def compared_by_image() -> list[str]:
    """The metrics that have a value of each image, on which two runs are compared."""
    return [metric.name for metric in METRICS.values() if metric.per_image is not None]


def _prefixes() -> list[str]:
    """What the columns of each paired comparison begin with."""
    return ["", *(f"{name}_" for name in compared_by_image())]


def holm(p_values: Sequence[float]) -> list[bool]:
    """Which of several p-values are significant at :data:`LEVEL` together, by Holm's step-down procedure.

    A p-value that is NaN, of runs that do not differ say, is not, and does not count.
    """
    order = sorted((p, number) for number, p in enumerate(p_values) if not math.isnan(p))
    significant = [False] * len(p_values)
    for rank, (p, number) in enumerate(order):
        if p > LEVEL / (len(order) - rank):
            break
        significant[number] = True
    return significant


def _as_computed(documents: Sequence[Document]) -> list[Document]:
    """The documents with the precision that they were computed in for that asked for."""
    return [
        {**document, "config": {**document["config"], "precision": computed_precision(document)}}
        for document in documents
    ]


def _values(documents: Sequence[Document], name: str) -> list[str]:
    return sorted({json.dumps(document["config"].get(name)) for document in documents})


def _differing(a: Sequence[Document], b: Sequence[Document]) -> list[str]:
    """The settings of which the stores have no value in common."""

    def differs(name: str) -> bool:
        here, there = (set(_values(documents, name)) for documents in (a, b))
        # null is a setting that a detector does not have: no value in common with those that have it, and none that
        # keeps two stores of several detectors from differing in the rest.
        shared = here & there
        return not shared or (shared == {"null"} and len(here) > 1 and len(there) > 1)

    names = dict.fromkeys(name for document in (*a, *b) for name in document["config"])
    return [name for name in names if name not in _ALWAYS_SHARED and differs(name)]


def _by_key(
    documents: Sequence[Document], differing: Sequence[str], store: RunStore, seeds: Collection[int | None]
) -> dict[str, Document]:
    """Runs by what pairs them; one in which nothing is drawn stands for all seeds."""
    keyed: dict[str, Document] = {}
    for document in documents:
        config = {name: value for name, value in document["config"].items() if name not in differing}
        drawn = bool(document.get("drawn"))
        for seed in {config.get("seed")} if drawn else seeds:
            key = json.dumps({**config, "members": None, "seed": seed}, sort_keys=True)
            other = keyed.setdefault(key, document)
            if other is not document and (drawn or bool(other.get("drawn"))):
                raise InputError(
                    f"{document['id']} and {other['id']} of {store.folder} differ only in {', '.join(differing)}, "
                    "which the stores differ in too: compare stores that hold one of them each"
                )
    return keyed


def _compare(first: RunStore, a: Document, second: RunStore, b: Document) -> dict[str, Any]:
    """The values of a pair and their differences, B − A, of folds the means over them."""
    images_a, images_b = (_tested(run["config"]) for run in (a, b))
    scores_a, scores_b = first.scores(a["id"]), second.scores(b["id"])
    if images_a != images_b or not np.array_equal(scores_a["labels"], scores_b["labels"]):
        raise InputError(
            f"{a['id']} and {b['id']} have other test images ({images_a}, and {images_b}): a paired comparison needs "
            "the same"
        )
    row: dict[str, Any] = {}
    for metric in METRICS.values():
        value_a, value_b = (mean_over_folds(document, metric.name) for document in (a, b))
        defined_alike = metric.defined_by is None or len(_values([a, b], metric.defined_by)) == 1
        if metric.per_image is not None:
            paired = _compare_images(metric, scores_a, scores_b if defined_alike else {})
            row |= {f"{metric.name}_{part}": value for part, value in asdict(paired).items()}
        if metric.paired is None:
            row[f"{metric.name}_difference"] = value_b - value_a if defined_alike else math.nan
            continue
        paired = metric.paired(scores_a["labels"], scores_a["scores"], scores_b["scores"])
        row |= {f"{metric.name}_a": value_a, f"{metric.name}_b": value_b, **asdict(paired)}
    return row


def _tested(config: dict[str, Any]) -> str:
    """What test images a run had, in words; the seed decides which defects moved among the images to fit."""
    images = f"{config['category']}, data {config['data']}"
    return images if config.get("contaminated") is None else f"{images}, contaminated by seed {config['seed']}"


def _compare_images(metric: Metric, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> PairedDifference:
    """The paired comparison of the values of images, each the mean of its folds; all NaN where a run has none."""
    array = per_image_array(metric.name)
    absent = np.full((1, len(a["labels"])), math.nan)
    return paired_images(*(arrays.get(array, absent).mean(axis=0) for arrays in (a, b)))


def _describe(config: Mapping[str, Any], names: Sequence[str]) -> str:
    """The values of some settings; what the models are needs no name, numbers do."""
    return " ".join(
        f"{name.replace('_', ' ')} {config[name]}" if isinstance(config[name], int) else str(config[name])
        for name in names
        if config.get(name) is not None
    )


def _find(documents: Sequence[Document], run_id: str) -> Document:
    matches = [document for document in documents if run_id and document["id"].startswith(run_id)]
    if len(matches) != 1:
        what = f"{len(matches)} runs have ids that begin with" if matches else "no run has the id"
        raise InputError(f"{what} {run_id!r}: the column id of --format csv shows them (mean rows have none)")
    if not is_done(matches[0]):
        raise InputError(f"the run {matches[0]['id']} failed: only runs that are done have scores to compare")
    return matches[0]


def _mean_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the categories, each the mean of its pairs."""
    names = [name for name in rows[0] if isinstance(rows[0][name], float)]
    by_category = pd.DataFrame(rows).groupby("category")[names].mean()
    mean: dict[str, Any] = by_category.mean(skipna=False).to_dict()
    for prefix in _prefixes():
        low, high, p_value = student_test(by_category[f"{prefix}difference"].to_numpy(), 0.95)
        if max(-low, high) > LARGEST_DIFFERENCE:  # so few categories say nothing of how far others may lie
            low, high = math.nan, math.nan
        tested = {"low": low, "high": high, "p_value": p_value, "significant": p_value <= LEVEL}
        mean |= {f"{prefix}{part}": value for part, value in tested.items()}
    return {**mean, "category": MEAN, "run": f"over {len(by_category)} categories"}
