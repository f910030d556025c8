"""Records what came of runs, and tells which are to be done."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from padim_zoo.bench.claims import Claims
from padim_zoo.bench.run import Run
from padim_zoo.bench.run_result import RunResult
from padim_zoo.bench.status import DONE, FAILED
from padim_zoo.bench.store import FORMAT, Document, RunStore, encode_run


@dataclass(frozen=True)
class Recorder:
    """Writes the documents of runs.

    Attributes
    ----------
    store : RunStore
    environment : dict
        Recorded with every run that is done here.
    runtimes : tuple of str
        A run that was not timed in all of them is not complete.
    """

    store: RunStore
    environment: Mapping[str, Any]
    runtimes: tuple[str, ...] = ()

    def completed(self, run: Run) -> Document | None:
        """The document of a run that is done."""
        return self.store.completed(run.id, self.runtimes)

    def claims(self) -> Claims:
        """Claims on runs, of which none is taken yet."""
        return Claims(self.store.folder)

    def record(self, run: Run, outcome: RunResult | Exception) -> Document:
        """Write what came of a run."""
        document = describe(run, outcome, self.environment)
        self.store.write_files(run.id, encode_run(document, *arrays_of(outcome)))
        return document

    def write(self, run_id: str, files: Mapping[str, bytes]) -> Document:
        """Write what a worker has made of a run, as :func:`~padim_zoo.bench.store.encode_run` gives it."""
        self.store.write_files(run_id, files)
        document = self.store.read(run_id)
        assert document is not None
        return document


def arrays_of(outcome: RunResult | Exception) -> tuple[dict[str, np.ndarray] | None, dict[str, np.ndarray] | None]:
    """The scores and the gallery of a run; None of one that failed."""
    return (None, None) if isinstance(outcome, Exception) else (outcome.scores, outcome.gallery)


def describe(run: Run, outcome: RunResult | Exception, environment: Mapping[str, Any]) -> Document:
    """The document of a run."""
    error, result = (outcome, RunResult()) if isinstance(outcome, Exception) else (None, outcome)
    return {
        "format": FORMAT,
        "id": run.id,
        "status": DONE if error is None else FAILED,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "config": run.config.to_dict(),
        "weights": run.weights_label,
        "drawn": run.drawn,
        "asked_resize": run.asked_resize,
        **result.recorded(),
        "error": None if error is None else _describe_error(error),
        "environment": dict(environment),
    }


def _describe_error(error: Exception) -> dict[str, str]:
    return {
        "type": type(error).__name__,
        "message": " ".join(str(error).split()) or type(error).__name__,
        "traceback": "".join(traceback.format_exception(error)),
    }
