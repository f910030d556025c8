"""Does groups of runs and records each as soon as it is done, whether it worked or failed."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from padim_zoo.bench.claims import Claims
from padim_zoo.bench.group_runner import BackboneCache, GroupRunner, RunResult
from padim_zoo.bench.run import Run
from padim_zoo.bench.store import FORMAT, Document, RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import Dataset
from padim_zoo.data.unreadable import explained


@dataclass(frozen=True)
class Event:
    """A run begins, is at work, or, with its document, is recorded, whether it worked or failed.

    Attributes
    ----------
    run : Run
    document : Document or None
    elsewhere : bool
        Another process is at this run, so it was left out.
    doing : str
        What it is at, such as images that are read.
    """

    run: Run
    document: Document | None = None
    elsewhere: bool = False
    doing: str = ""


class Runner:
    """Does groups of runs and records them.

    Parameters
    ----------
    suite : Suite
        Its plugins are loaded.
    store : RunStore
    environment : dict
        Recorded with every run.
    """

    def __init__(self, suite: Suite, store: RunStore, environment: dict[str, Any]) -> None:
        self.suite = suite
        self.store = store
        self.environment = environment
        self.dataset: Dataset = suite.open_dataset()
        self.caches = Caches.usual() if suite.cache else Caches()
        self.backbones = BackboneCache()

    def run_group(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Do runs of one category that have the same backbones."""
        claims = Claims(self.store.folder)
        claims.take(run.id for run in runs if self._completed(run) is None)
        try:
            yield from self._run_claimed(runs, claims)
        finally:
            claims.release()

    def _completed(self, run: Run) -> Document | None:
        return self.store.completed(run.id, self.suite.time_exports)

    def _run_claimed(self, runs: Sequence[Run], claims: Claims) -> Iterator[Event]:
        bench: GroupRunner | None = None
        for run in runs:
            meanwhile = self._completed(run)
            if meanwhile is not None:  # by another process that works on the same store
                yield Event(run, meanwhile)
                continue
            if run.id not in claims:
                yield Event(run, elsewhere=True)
                continue
            yield Event(run)
            outcome: RunResult | Exception
            try:
                if bench is None:
                    category = self.dataset.load(run.config.category)
                    bench = GroupRunner(self.suite, category, runs, self.backbones, self.caches)
                outcome = bench.do(run)
            except InputError as error:
                outcome = error if bench is None else explained(error, bench.paths)
            except Exception as error:  # whatever goes wrong in one run is a row, and the others go on
                outcome = error
            document = self.record(run, outcome)
            claims.release(run.id)
            yield Event(run, document)

    def record(self, run: Run, outcome: RunResult | Exception) -> Document:
        """Write what came of a run."""
        document = describe(run, outcome, self.environment)
        if isinstance(outcome, Exception):
            self.store.write(document)
        else:
            self.store.write(document, outcome.scores, outcome.gallery)
        return document


def describe(run: Run, outcome: RunResult | Exception, environment: dict[str, Any]) -> Document:
    """The document of a run."""
    error, result = (outcome, RunResult()) if isinstance(outcome, Exception) else (None, outcome)
    return {
        "format": FORMAT,
        "id": run.id,
        "status": "done" if error is None else "failed",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "config": run.config.to_dict(),
        "weights": run.weights_label,
        "drawn": run.drawn,
        "asked_resize": run.asked_resize,
        **result.recorded(),
        "error": None if error is None else _describe_error(error),
        "environment": environment,
    }


def _describe_error(error: Exception) -> dict[str, str]:
    return {
        "type": type(error).__name__,
        "message": " ".join(str(error).split()) or type(error).__name__,
        "traceback": "".join(traceback.format_exception(error)),
    }
