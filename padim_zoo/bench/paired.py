"""Two runs on the same test images: how their image AUROCs differ, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from padim_zoo.bench.store import Document, RunStore
from padim_zoo.core.errors import InputError
from padim_zoo.metrics.confidence import paired_difference


def compare_runs(store: RunStore, documents: Sequence[Document], first: str, second: str) -> pd.DataFrame:
    """The paired comparison of two runs, by the test scores that the store keeps.

    The scores of several folds are compared by the mean AUROC of the folds.

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
        One row: ``category``; ``a``, ``b``, what the runs are; their ids ``id_a`` and ``id_b``; ``image_auroc_a`` and
        ``image_auroc_b``; ``difference``, A less B, with its 95 % interval ``low`` to ``high``; ``p_value`` of DeLong's
        test that there is none.

    Raises
    ------
    InputError
        If an id is that of no run or of several, or the runs failed or have other test images.
    """
    a, b = (_find(documents, run_id) for run_id in (first, second))
    if a["id"] == b["id"]:
        raise InputError(f"{first} and {second} are the same run: give the ids of two")
    images = [(document["config"]["category"], document["config"]["data"]) for document in (a, b)]
    arrays = [store.scores(document["id"]) for document in (a, b)]
    if images[0] != images[1] or not np.array_equal(arrays[0]["labels"], arrays[1]["labels"]):
        raise InputError(
            f"{a['id']} and {b['id']} have other test images ({images[0][0]}, data {images[0][1]}, and {images[1][0]}, "
            f"data {images[1][1]}): a paired comparison needs the same"
        )
    found = paired_difference(arrays[0]["labels"], arrays[0]["scores"], arrays[1]["scores"])
    aurocs = [np.mean([fold["image_auroc"] for fold in document["folds"]]) for document in (a, b)]
    row = {
        "category": images[0][0],
        "a": _describe(a),
        "b": _describe(b),
        "id_a": a["id"],
        "id_b": b["id"],
        "image_auroc_a": aurocs[0],
        "image_auroc_b": aurocs[1],
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
    }
    comparison: pd.DataFrame = pd.DataFrame([row])
    return comparison


def describe_comparison(comparison: pd.DataFrame) -> str:
    """The comparison for a reader."""
    row = comparison.iloc[0]
    return (
        f"{row['category']}, image AUROC\n"
        f"A {row['image_auroc_a']:.4f}  {row['a']}\n"
        f"B {row['image_auroc_b']:.4f}  {row['b']}\n"
        f"A − B = {row['difference']:+.4f}, 95 % interval {row['low']:+.4f} to {row['high']:+.4f}, "
        f"p = {row['p_value']:.3g}\n"
    )


def _find(documents: Sequence[Document], run_id: str) -> Document:
    found = [document for document in documents if run_id and document["id"].startswith(run_id)]
    if len(found) != 1:
        what = f"{len(found)} runs have ids that begin with" if found else "no run has the id"
        raise InputError(f"{what} {run_id!r}: the column id of --format csv shows them (mean rows have none)")
    if found[0]["status"] != "done":
        raise InputError(f"the run {found[0]['id']} failed: only runs that are done have scores to compare")
    return found[0]


def _describe(document: Document) -> str:
    """Detector, backbone, estimator and the numbers that go with them."""
    config = document["config"]
    models = [str(config[name]) for name in ("detector", "backbone", "estimator") if config.get(name) is not None]
    others = [
        f"{name} {config[name]}"
        for name in ("ensemble", "n_components", "seed", "folds")
        if config.get(name) is not None
    ]
    return " ".join(models + others)
