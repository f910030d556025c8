"""Which runs of a plan are missing, and doing them by an executor.

A suite asks for an executor by ``--cluster`` and ``--jobs``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from padim_zoo.bench.environment import describe_environment
from padim_zoo.bench.executors.cluster import Note
from padim_zoo.bench.executors.executor import Event, Executor, Recorder, SerialExecutor
from padim_zoo.bench.executors.processes import ProcessExecutor
from padim_zoo.bench.plan import Plan, groups
from padim_zoo.bench.run import Run
from padim_zoo.bench.runner import Runner
from padim_zoo.bench.running import BenchState, heartbeat
from padim_zoo.bench.status import is_done
from padim_zoo.bench.store import DamagedRunError, Document, NewerRunError, RunStore, knows_runtimes
from padim_zoo.bench.suite import Suite
from padim_zoo.core.atomic_write import check_writable
from padim_zoo.core.errors import needs_extra
from padim_zoo.core.numbers import number_of
from padim_zoo.runtimes.runtime import RUNTIMES, TORCH

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class PendingRuns:
    """What is left of a plan.

    Attributes
    ----------
    plan : Plan
        The runs to do.
    done : list of Document
        The runs that are done.
    notes : list of str
        Why runs that were recorded are done again.
    """

    plan: Plan
    done: list[Document] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_missing(plan: Plan, store: RunStore, runtimes: Sequence[str] = (), runtime: str | None = None) -> PendingRuns:
    """Compare a plan with a run store: failed runs and damaged files are done again, complete runs are not.

    A run is complete if it was timed in all the runtimes asked for. One whose backbone another ``runtime`` ran than is
    asked for is complete too, and noted: its scores are the same but for rounding, and its times are not.

    Raises
    ------
    NewerRunError
        If a run was recorded by a later version, whose document is not to be lost.
    """
    done: dict[str, Document] = {}
    notes: list[str] = []
    failed = untimed = 0
    for run in plan:
        try:
            document = store.read(run.id)
        except NewerRunError:
            raise
        except DamagedRunError as error:
            notes.append(f"{error}; it is done again")
            continue
        if document is not None and is_done(document):
            if knows_runtimes(document, runtimes):
                done[run.id] = document
            else:
                untimed += 1
        elif document is not None:
            failed += 1
    others = [document["runtime"] for document in done.values() if _could_run(runtime, document)]
    if others:
        notes.append(
            f"{number_of(len(others), 'run')} by {' and '.join(sorted(set(others)))} kept: give another --output to "
            f"have all by {runtime}"
        )
    if failed:
        notes.append(
            f"{failed} run{'s that failed before are' if failed > 1 else ' that failed before is'} tried again"
        )
    if untimed:
        notes.append(f"{untimed} runs were not timed in {', '.join(runtimes)} and are done again")
    runs = [run for run in plan if run.id not in done]
    return PendingRuns(Plan(runs), list(done.values()), notes)


def _could_run(runtime: str | None, document: Document) -> bool:
    """Whether a runtime did not run the backbone of a run, and can."""
    ran = document.get("runtime")
    precisions = RUNTIMES[runtime].precisions if runtime in RUNTIMES else (document.get("precision"),)
    able = runtime in (TORCH, *RUNTIMES) and document.get("precision") in precisions
    return able and ran is not None and ran != runtime


def execute(suite: Suite, missing: PendingRuns, store: RunStore, note: Note = warnings.warn) -> Iterator[Event]:
    """Do the missing runs; each is recorded in the store before it is reported.

    Meanwhile a file in the store tells other processes how far this one is.

    Parameters
    ----------
    suite : Suite
    missing : PendingRuns
    store : RunStore
    note : callable
        Is told what there is to say of a cluster.

    Raises
    ------
    ClusterLostError
        If the scheduler of a cluster is gone.
    """
    before = len(missing.done)
    if len(missing.plan):
        check_writable(store.folder)
    with heartbeat(store, BenchState(len(missing.plan) + before, before, before)) as sign:
        for event in _execute(suite, missing, store, note):
            sign.take(event)
            yield event


def _execute(suite: Suite, missing: PendingRuns, store: RunStore, note: Note) -> Iterator[Event]:
    recorder = Recorder(store, describe_environment(suite.jobs), suite.time_exports)
    plan = missing.plan
    if not len(plan):
        return
    with make_executor(suite, recorder, note) as executor:
        while len(plan):
            elsewhere: list[Run] = []
            for event in executor.run(groups(plan)):
                if event.elsewhere:
                    elsewhere.append(event.run)
                else:
                    yield event
            yield from _recorded_elsewhere(elsewhere, recorder)
            plan = Plan(elsewhere)


def _recorded_elsewhere(runs: list[Run], recorder: Recorder) -> Iterator[Event]:
    """Wait until other processes have recorded all of their runs, or given one up: those that are left stay listed."""
    while runs:
        for run in list(runs):
            document = recorder.completed(run)
            if document is not None:
                runs.remove(run)
                yield Event(run, document)
        claims = recorder.claims()
        claims.take(run.id for run in runs)
        free = any(run.id in claims for run in runs)
        claims.release()
        if free:
            return
        time.sleep(_POLL_SECONDS)


def make_executor(suite: Suite, recorder: Recorder, note: Note) -> Executor:
    """A cluster where the suite names one, processes where it has several jobs, else this process.

    Parameters
    ----------
    suite : Suite
    recorder : Recorder
    note : callable
        Is told what there is to say of a cluster.

    Raises
    ------
    InputError
        If a cluster is named and Dask is not installed.
    """
    if suite.cluster is not None:
        with needs_extra("dask", "--cluster"):
            from padim_zoo.bench.executors.dask import DaskExecutor
        return DaskExecutor(suite, recorder, note)
    return ProcessExecutor(suite, recorder) if suite.jobs > 1 else SerialExecutor(Runner(suite), recorder)
