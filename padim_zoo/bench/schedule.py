"""Which runs of a plan are missing, and doing them: in this process, or group by group in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from padim_zoo.bench.claims import Claims
from padim_zoo.bench.environment import describe_environment
from padim_zoo.bench.plan import Plan, groups
from padim_zoo.bench.run import Run
from padim_zoo.bench.runner import Event, Runner
from padim_zoo.bench.running import BenchState, heartbeat
from padim_zoo.bench.store import DamagedRunError, Document, NewerRunError, RunStore, knows_runtimes
from padim_zoo.bench.suite import Suite
from padim_zoo.bench.worker_process import (
    CHECK_SECONDS,
    HANG_SECONDS,
    Idleness,
    StageSender,
    current_folder,
    end_with_parent,
    safe_path,
)
from padim_zoo.core.atomic_write import check_writable

_POLL_SECONDS = 1.0
_GOODBYE_SECONDS = 5.0


class WorkerDiedError(RuntimeError):
    """A worker process ended in the middle of a run."""


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


def find_missing(plan: Plan, store: RunStore, runtimes: Sequence[str] = ()) -> PendingRuns:
    """Compare a plan with a run store: failed runs and damaged files are done again, complete runs are not.

    A run is complete if it was timed in all the runtimes asked for.

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
        if document is not None and document["status"] == "done":
            if knows_runtimes(document, runtimes):
                done[run.id] = document
            else:
                untimed += 1
        elif document is not None:
            failed += 1
    if failed:
        notes.append(
            f"{failed} run{'s that failed before are' if failed > 1 else ' that failed before is'} tried again"
        )
    if untimed:
        notes.append(f"{untimed} runs were not timed in {', '.join(runtimes)} and are done again")
    runs = [run for run in plan if run.id not in done]
    return PendingRuns(Plan(runs), list(done.values()), notes)


def execute(suite: Suite, missing: PendingRuns, store: RunStore) -> Iterator[Event]:
    """Do the missing runs; each is recorded in the store before it is reported.

    Meanwhile a file in the store tells other processes how far this one is.
    """
    before = len(missing.done)
    if len(missing.plan):
        check_writable(store.folder)
    with heartbeat(store, BenchState(len(missing.plan) + before, before, before)) as sign:
        for event in _execute(suite, missing, store):
            sign.take(event)
            yield event


def _execute(suite: Suite, missing: PendingRuns, store: RunStore) -> Iterator[Event]:
    runner = Runner(suite, store, describe_environment(suite.jobs))
    plan = missing.plan
    while len(plan):
        in_groups = groups(plan)
        parallel = suite.jobs > 1 and len(in_groups) > 1
        elsewhere: list[Run] = []
        events = _in_workers(in_groups, runner) if parallel else chain.from_iterable(map(runner.run_group, in_groups))
        for event in events:
            if event.elsewhere:
                elsewhere.append(event.run)
            else:
                yield event
        waiting = _Waiting(elsewhere, runner)
        yield from waiting.recorded()
        plan = Plan(waiting.runs)


@dataclass
class _Waiting:
    """Runs that other processes are at."""

    runs: list[Run]
    runner: Runner

    def recorded(self) -> Iterator[Event]:
        """Wait until the others have recorded all, or given one up: then those that are left are to be done here."""
        while self.runs:
            for run in list(self.runs):
                document = self.runner.store.completed(run.id, self.runner.suite.time_exports)
                if document is not None:
                    self.runs.remove(run)
                    yield Event(run, document)
            claims = Claims(self.runner.store.folder)
            claims.take(run.id for run in self.runs)
            free = any(run.id in claims for run in self.runs)
            claims.release()
            if free:
                return
            time.sleep(_POLL_SECONDS)


@dataclass
class _Worker:
    """A worker process, and how far it is with its group."""

    process: BaseProcess
    connection: Connection
    group: list[Run] = field(default_factory=list)
    running: Run | None = None
    worker_error: str | None = None
    """The exception that it ends with, if it could tell."""

    def __post_init__(self) -> None:
        assert self.process.pid is not None
        self.idleness = Idleness(self.process.pid)

    def end_if_it_hangs(self) -> None:
        """Kill a process that does nothing any more: its run fails, and the others of its group go on."""
        if self.idleness.seconds() > HANG_SECONDS and self.worker_error is None:
            self.worker_error = f"it did nothing for {HANG_SECONDS:.0f} seconds"
            self.process.kill()


def _in_workers(in_groups: list[list[Run]], runner: Runner) -> Iterator[Event]:
    """Hand groups out to worker processes.

    A worker that dies (the system may kill it for its memory) fails the run it was at; the rest of its group goes to a
    new one.
    """
    waiting = deque(in_groups)
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < runner.suite.jobs:
                workers.append(_start(runner, waiting.popleft()))
            ready = wait([worker.connection for worker in workers], CHECK_SECONDS)
            for worker in workers:
                worker.end_if_it_hangs()
            for worker in [worker for worker in workers if worker.connection in ready]:
                try:
                    event = worker.connection.recv()
                except (EOFError, ConnectionError):
                    yield from _record_dead_worker(worker, runner)
                    workers.remove(worker)
                    if worker.group:
                        waiting.appendleft(worker.group)
                    continue
                if isinstance(event, str):
                    worker.worker_error = event
                    continue
                if event is None:  # the group is done
                    if waiting:
                        worker.group = waiting.popleft()
                        with suppress(ConnectionError):  # if it has died, the next recv says so
                            worker.connection.send(worker.group)
                    else:
                        worker.connection.close()
                        worker.process.join()
                        workers.remove(worker)
                    continue
                if event.elsewhere:
                    worker.group = [run for run in worker.group if run.id != event.run.id]
                elif event.document is None:
                    worker.running = event.run
                else:
                    worker.running = None
                    worker.group = [run for run in worker.group if run.id != event.run.id]
                yield event
    finally:
        for worker in workers:  # interrupted: what they are at is not recorded, and will be done next time
            worker.process.terminate()
            worker.process.join(_GOODBYE_SECONDS)
            worker.process.kill()
            worker.process.join()


def _start(runner: Runner, group: list[Run]) -> _Worker:
    context = _context()
    ours, theirs = context.Pipe()
    threads = max(1, torch.get_num_threads() // runner.suite.jobs)
    arguments = (theirs, runner.suite, runner.store, runner.environment, threads, current_folder())
    process = context.Process(target=_work, args=arguments, daemon=True)
    with safe_path():
        process.start()
    theirs.close()  # so that the end of the worker is the end of the pipe
    ours.send(group)
    return _Worker(process, ours, group)


def _context() -> Any:
    """Processes that inherit nothing: a fork of this one would share its threads and its GPU."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([Runner.__module__])  # torch is imported once for all workers
    return context


def _record_dead_worker(worker: _Worker, runner: Runner) -> Iterator[Event]:
    """Record the run that a dead worker was at, or its whole group if it never got to one."""
    worker.process.join()
    worker.connection.close()
    code = worker.process.exitcode
    if worker.worker_error is not None:
        error = WorkerDiedError(f"the worker process failed: {worker.worker_error}")
    elif code == -signal.SIGKILL:  # what a system that runs out of memory sends
        error = WorkerDiedError("the worker process was killed; out of memory? try fewer --jobs")
    else:
        reason = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        error = WorkerDiedError(f"the worker process died ({reason})")
    lost = worker.group if worker.running is None else [worker.running]
    for run in lost:
        yield Event(run, runner.record(run, error))
    worker.group = [run for run in worker.group if run not in lost]


def _work(
    connection: Connection,
    suite: Suite,
    store: RunStore,
    environment: dict[str, Any],
    threads: int,
    folder: str | None,
) -> None:
    """Life of a worker: groups in, events out, None after each group, until the pipe closes.

    An exception outside of a run, in the loading of a plugin say, is sent as text and ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    end_with_parent()
    if folder is not None:
        os.chdir(folder)  # it started in another, and paths may be relative
    sender = StageSender(connection)
    with suppress(EOFError, ConnectionError):
        try:
            torch.set_num_threads(threads)
            suite.load_plugins()
            runner = Runner(suite.replace(jobs=1), store, {**environment, "threads": threads})
            while True:
                for event in runner.run_group(connection.recv()):
                    sender.send(event)
                sender.send(None)
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            sender.send(f"{type(error).__name__}: {' '.join(str(error).split())}")
