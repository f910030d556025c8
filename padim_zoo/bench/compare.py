"""Two run stores, run by run: what differs, by how much, and whether that is more than chance."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from padim_zoo.bench.leaderboard import MEAN
from padim_zoo.bench.store import Document, RunStore, computed_precision
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.confidence import paired_difference

LEVEL = 0.05
"""Differences are significant at this level, over all pairs together."""

_NAMING = ("detector", "backbone", "estimator", "ensemble", "train_size", "n_components", "folds", "seed")
_PIXEL_FIGURES = ("pixel_auroc", "aupro")
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
        One row per pair: ``category``; ``run``, what they share; ``image_auroc_a`` and ``image_auroc_b``;
        ``difference``, B less A, with its 95 % interval ``low`` to ``high`` (paired stratified bootstrap of the test
        images) and the ``p_value`` of DeLong's test; ``significant``, at 0.05 over all pairs together (Holm);
        ``pixel_auroc_difference`` and ``aupro_difference``. Where there are several categories, a last row ``mean``:
        its interval and p-value are those of Student's t over the categories. ``attrs`` holds ``differing``, the
        settings that the stores differ in, and ``unpaired``, how many runs of A and of B have no partner.

    Raises
    ------
    InputError
        If there are no pairs, or a run has several partners.
    """
    a, b = (_done(store) for store in (first, second))
    if not set(_values(a, "precision")) & set(_values(b, "precision")):  # auto is whatever it came to
        a, b = (_as_computed(documents) for documents in (a, b))
    differing = _differing(a, b)
    partners = _by_key(b, differing, second)
    mine = _by_key(a, differing, first)
    shared = [key for key in mine if key in partners]
    if not shared:
        raise InputError(
            f"no run of {first.folder} has a partner in {second.folder}: expected runs of the same categories and "
            "seeds on the same images"
        )
    rows = [_row(first, mine[key], second, partners[key], differing) for key in shared]
    rows.sort(key=lambda row: (row["category"], row["run"]))
    for row, significant in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["significant"] = significant
    if len({row["category"] for row in rows}) > 1:
        rows.append(_mean_row(rows))
    comparison: pd.DataFrame = pd.DataFrame(rows)
    if any(computed_precision(mine[key]) != computed_precision(partners[key]) for key in shared):
        differing = list(dict.fromkeys([*differing, "precision"]))
        a, b = (_as_computed(documents) for documents in (a, b))
    comparison.attrs = {
        "differing": {name: (_values(a, name), _values(b, name)) for name in differing},
        "unpaired": (len(mine) - len(shared), len(partners) - len(shared)),
    }
    return comparison


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


def _done(store: RunStore) -> list[Document]:
    documents = [document for document in store.read_all().documents if document["status"] == "done"]
    if not documents:
        raise InputError(f"{store.folder} holds no run that is done: fill it with padim-zoo bench")
    return documents


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
    names = dict.fromkeys(name for document in (*a, *b) for name in document["config"])
    found = []
    for name in names:
        values = [set(_values(documents, name)) for documents in (a, b)]
        # null is a setting that a detector does not have: no value in common with those that have it, and none that
        # keeps two stores of several detectors from differing in the rest.
        set_ones = [each - {"null"} for each in values]
        disjoint = not values[0] & values[1] or (all(set_ones) and not set_ones[0] & set_ones[1])
        if name not in _ALWAYS_SHARED and disjoint:
            found.append(name)
    return found


def _by_key(documents: Sequence[Document], differing: Sequence[str], store: RunStore) -> dict[str, Document]:
    keyed: dict[str, Document] = {}
    for document in documents:
        config = {name: value for name, value in document["config"].items() if name not in differing}
        key = json.dumps({**config, "members": None}, sort_keys=True)
        if key in keyed:
            raise InputError(
                f"{document['id']} and {keyed[key]['id']} of {store.folder} differ only in {', '.join(differing)}, "
                "which the stores differ in too: compare stores that hold one of them each"
            )
        keyed[key] = document
    return keyed


def _row(first: RunStore, a: Document, second: RunStore, b: Document, differing: Sequence[str]) -> dict[str, Any]:
    config = a["config"]
    scores = [store.scores(document["id"]) for store, document in ((first, a), (second, b))]
    if not np.array_equal(scores[0]["labels"], scores[1]["labels"]):
        raise InputError(f"{a['id']} and {b['id']} have other test images: a paired comparison needs the same")
    found = paired_difference(scores[1]["labels"], scores[1]["scores"], scores[0]["scores"])
    shared = [
        f"{name.replace('_', ' ')} {config[name]}" if isinstance(config[name], int) else str(config[name])
        for name in _NAMING
        if config.get(name) is not None and name not in differing
    ]
    return {
        "category": config["category"],
        "run": " ".join(shared),
        "image_auroc_a": _figure(a, "image_auroc"),
        "image_auroc_b": _figure(b, "image_auroc"),
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "significant": False,
        **{f"{name}_difference": _figure(b, name) - _figure(a, name) for name in _PIXEL_FIGURES},
    }


def _figure(document: Document, name: str) -> float:
    values = [fold.get(name) for fold in document["folds"]]
    return float(np.mean([math.nan if value is None else value for value in values]))


def _mean_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the categories, each the mean of its pairs."""
    from scipy import stats

    names = [name for name in rows[0] if isinstance(rows[0][name], float)]
    by_category = pd.DataFrame(rows).groupby("category")[names].mean()
    mean: dict[str, Any] = {name: float(by_category[name].mean(skipna=False)) for name in names}
    differences = by_category["difference"].to_numpy()
    n, spread = len(differences), float(np.std(differences, ddof=1))
    error = spread / math.sqrt(n)
    margin = float(stats.t.ppf(0.975, n - 1)) * error
    p_value = float(2 * stats.t.sf(abs(mean["difference"]) / error, n - 1)) if error > 0 else math.nan
    return {
        **mean,
        "category": MEAN,
        "run": f"over {n} categories",
        "low": mean["difference"] - margin,
        "high": mean["difference"] + margin,
        "p_value": p_value,
        "significant": p_value <= LEVEL,
    }
