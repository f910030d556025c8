"""What an executor is: give it groups of runs, and it gives recorded documents back.

The recorder writes what came of runs, and tells which are to be done. The serial executor does groups one after the
other, in this process.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from padim_zoo.bench.claims import Claims
from padim_zoo.bench.run import Run
from padim_zoo.bench.run_result import RunResult
from padim_zoo.bench.runner import Runner
from padim_zoo.bench.status import DONE, FAILED
from padim_zoo.bench.store import FORMAT, Document, RunStore, encode_run

if TYPE_CHECKING:
    from typing_extensions import Self


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


@dataclass(frozen=True)
class Event:
    """A run begins, is at work, or, with its document, is recorded, whether it worked or failed.

    Attributes
    ----------
    run : Run
    document : Document or None
    elsewhere : bool
        Another process is at this run, so it was left out.
    cluster : str
        How many workers there are and what they are at, of a run that begins on a cluster.
    doing : str
        What the run is at, such as images that are read.
    """

    run: Run
    document: Document | None = None
    elsewhere: bool = False
    cluster: str = ""
    doing: str = ""


class Executor(Protocol):
    """Does groups of runs. Each run is recorded in the store before its event says so.

    It is a context manager, which ends whatever it has started.
    """

    def run(self, in_groups: Sequence[list[Run]]) -> Iterator[Event]:
        """Do groups of runs, in any order."""

    def __enter__(self) -> Self:
        """Start what it needs."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""


class SerialExecutor:
    """Does groups in this process.

    Parameters
    ----------
    runner : Runner
    recorder : Recorder
    """

    def __init__(self, runner: Runner, recorder: Recorder) -> None:
        self.runner = runner
        self.recorder = recorder

    def run(self, in_groups: Sequence[list[Run]]) -> Iterator[Event]:
        """Do groups of runs, in their order."""
        for group in in_groups:
            yield from self.run_group(group)

    def run_group(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Do runs of one category that have the same backbones, but for those that another process is at."""
        claims = self.recorder.claims()
        claims.take(run.id for run in runs if self.recorder.completed(run) is None)
        do = self.runner.open_group(runs)
        try:
            for run in runs:
                meanwhile = self.recorder.completed(run)
                if meanwhile is not None:  # by another process that works on the same store
                    yield Event(run, meanwhile)
                elif run.id not in claims:
                    yield Event(run, elsewhere=True)
                else:
                    yield Event(run)
                    document = self.recorder.record(run, do(run))
                    claims.release(run.id)
                    yield Event(run, document)
        finally:
            claims.release()

    def __enter__(self) -> SerialExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was started."""
