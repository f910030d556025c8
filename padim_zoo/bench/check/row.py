"""What a comparison needs of a run: its configuration, metrics, costs, and the order of its test scores."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from padim_zoo.bench.check.machine import Machine
from padim_zoo.bench.costs import COSTS, IN_RUNTIMES
from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.status import has_failed
from padim_zoo.bench.store import Document, RunStore, computed_precision
from padim_zoo.core.errors import InputError
from padim_zoo.core.jsonable import to_jsonable
from padim_zoo.metrics import METRICS
from padim_zoo.runtimes.runtime import TORCH

_INCIDENTAL = ("data", "weights_hash", "plugins", "results_version")
"""Parts of a configuration that change from one checkout or machine to the next, and are not what was asked for."""

_DEFAULTS = RunConfig().to_dict()
"""What settings are that an older version of this package did not write down."""


@dataclass(frozen=True)
class TestScores:
    """The scores of N test images in each of K folds, by their order.

    Attributes
    ----------
    labels : ndarray (N,), uint8
        0 for normal images, 1 for anomalous ones.
    ranks : ndarray (K, N), int
        Ranks of the scores within a fold, equal scores having equal ranks. Image metrics depend on nothing else.
    """

    __test__ = False  # the name is no test's

    labels: np.ndarray
    ranks: np.ndarray

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.ranks.ndim != 2 or self.ranks.shape[1] != len(self.labels):
            raise ValueError(f"scores of shape {self.ranks.shape} for {len(self.labels)} labels")

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray) -> TestScores:
        """Rank scores (K, N)."""
        ranks = [np.unique(fold, return_inverse=True)[1] for fold in scores]
        return cls(labels.astype(np.uint8), np.stack(ranks))


@dataclass(frozen=True)
class Row:
    """A run.

    Attributes
    ----------
    config : dict
        Its configuration.
    weights : str or None
        Source of the backbone's weights.
    machine : Machine
    metrics : dict of str to list of float
        Every metric in each fold, NaN where it was not computed; empty if the run failed.
    costs : dict of str to float
        As :data:`padim_zoo.bench.costs.COSTS` lists them.
    scores : TestScores or None
        None if the run failed.
    error : str or None
        Why it failed.
    precision : str or None
        Type that the backbone computed in, which is that of the configuration unless this says ``"auto"``.
    runtime : str
        What ran the backbone.
    """

    config: Mapping[str, Any]
    weights: str | None
    machine: Machine
    metrics: Mapping[str, Sequence[float]]
    costs: Mapping[str, float]
    scores: TestScores | None
    error: str | None = None
    precision: str | None = None
    runtime: str = TORCH

    def __post_init__(self) -> None:
        lacking = {name for name in ("dataset", "category", "data") if self.config.get(name) is None}
        if lacking:
            raise ValueError(f"the configuration lacks {', '.join(sorted(lacking))}")
        if self.scores is not None and any(len(values) != len(self.scores.ranks) for values in self.metrics.values()):
            raise ValueError("metrics and scores are not of the same folds")

    @property
    def key(self) -> str:
        """What was asked for, as a hash: the same on another machine and with a fresh copy of the data."""
        return self._hash_without(_INCIDENTAL)

    @property
    def configuration(self) -> str:
        """What rows of several categories and seeds have in common, as a hash."""
        return self._hash_without(("category", "seed", "data"))

    def _hash_without(self, names: Sequence[str]) -> str:
        text = json.dumps({name: value for name, value in self.config.items() if name not in names}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: without NaN, and with all labels in one string."""
        assert self.scores is not None
        return {
            "config": dict(self.config),
            "weights": self.weights,
            "precision": self.precision,
            "runtime": self.runtime,
            "machine": asdict(self.machine),
            "figures": to_jsonable(self.metrics),
            "costs": to_jsonable(self.costs),
            "labels": "".join(map(str, self.scores.labels)),
            "ranks": self.scores.ranks.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """The row that :meth:`to_dict` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it did not.
        """
        labels, ranks = np.array(list(values["labels"]), dtype=np.uint8), np.array(values["ranks"], dtype=np.int64)
        absent = [None] * len(ranks)
        # Latency in runtimes is younger than the format, and measured only where it was asked for.
        costs = {**dict.fromkeys(IN_RUNTIMES), **values["costs"]}
        return cls(
            config={**_DEFAULTS, **values["config"]},
            weights=values["weights"],
            machine=Machine.of(values["machine"]),
            # A metric that is younger than the baseline is undefined there.
            metrics={name: np.array(values["figures"].get(name, absent), float).tolist() for name in METRICS},
            costs={name: float(np.array(costs[name], float)) for name in COSTS},
            scores=TestScores(labels, ranks),
            precision=values.get("precision") or values["config"].get("precision"),
            runtime=values.get("runtime") or TORCH,
        )


def read_rows(store: RunStore, documents: Sequence[Document]) -> list[Row]:
    """The runs of a store. Of runs that differ in the fingerprint of the data only, the newest.

    Parameters
    ----------
    store : RunStore
    documents : sequence of dict
        All documents of the store.

    Raises
    ------
    InputError
        If a run is incomplete or was not timed against the calibration workload.
    """
    newest: dict[tuple[str, Any], Row] = {}
    for document in sorted(documents, key=lambda document: str(document.get("created"))):
        row = _read_row(store, document)
        newest[row.key, row.config["weights_hash"]] = row
    return list(newest.values())


def _read_row(store: RunStore, document: Document) -> Row:
    try:
        machine = Machine.of(document.get("environment") or {})
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"the run {document['id']} in {store.folder} does not say how fast its machine was (no calibration time): "
            "run padim-zoo bench again with this version, into an empty folder"
        ) from None
    failed = has_failed(document)
    arrays = {} if failed else store.scores(document["id"])
    try:
        return Row(
            config={**_DEFAULTS, **document["config"]},
            weights=document.get("weights"),
            machine=machine,
            metrics={name: [fold.get(name, math.nan) for fold in document["folds"]] for name in METRICS},
            costs={name: document["timings"].get(name, math.nan) for name in COSTS},
            scores=None if failed else TestScores.of(arrays["labels"], arrays["scores"]),
            error=document["error"]["message"] if failed else None,
            precision=computed_precision(document),
            runtime=document.get("runtime") or TORCH,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the run {document['id']} in {store.folder} is damaged ({type(error).__name__}: {error}): "
            "run padim-zoo bench again, into an empty folder"
        ) from None
