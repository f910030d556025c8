"""Groups handed out to worker processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from padim_zoo.bench.executors.executor import Event, Recorder, SerialExecutor
from padim_zoo.bench.executors.worker_process import (
    CHECK_SECONDS,
    HANG_SECONDS,
    Idleness,
    StageSender,
    current_folder,
    safe_path,
)
from padim_zoo.bench.run import Run
from padim_zoo.bench.runner import Runner
from padim_zoo.bench.suite import Suite
from padim_zoo.core.parent_process import end_with_parent
from padim_zoo.data.pixel_limit import pixels_limited

_GOODBYE_SECONDS = 5.0


class WorkerDiedError(RuntimeError):
    """A worker process ended in the middle of a run."""


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


class ProcessExecutor:
    """Does groups in worker processes, as many at a time as the suite has jobs; a single group in this process.

    A worker that dies (the system may kill it for its memory) fails the run it was at. The rest of its group goes to a
    new one.

    Parameters
    ----------
    suite : Suite
    recorder : Recorder
    """

    def __init__(self, suite: Suite, recorder: Recorder) -> None:
        self.suite = suite
        self.recorder = recorder
        self._workers: list[_Worker] = []

    def run(self, in_groups: Sequence[list[Run]]) -> Iterator[Event]:
        """Do groups of runs."""
        if len(in_groups) == 1:
            yield from SerialExecutor(Runner(self.suite), self.recorder).run(in_groups)
            return
        workers, waiting = self._workers, deque(in_groups)
        while waiting or workers:
            while waiting and len(workers) < self.suite.jobs:
                workers.append(self._start(waiting.popleft()))
            ready = wait([worker.connection for worker in workers], CHECK_SECONDS)
            for worker in workers:
                worker.end_if_it_hangs()
            for worker in [worker for worker in workers if worker.connection in ready]:
                try:
                    event = worker.connection.recv()
                except (EOFError, ConnectionError):
                    yield from self._record_dead_worker(worker)
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

    def _start(self, group: list[Run]) -> _Worker:
        context = _context()
        ours, theirs = context.Pipe()
        threads = max(1, torch.get_num_threads() // self.suite.jobs)
        environment = {**self.recorder.environment, "threads": threads}
        arguments = (theirs, self.suite, replace(self.recorder, environment=environment), threads, current_folder())
        process = context.Process(target=_work, args=arguments, daemon=True)
        with safe_path():
            process.start()
        theirs.close()  # so that the end of the worker is the end of the pipe
        ours.send(group)
        return _Worker(process, ours, group)

    def _record_dead_worker(self, worker: _Worker) -> Iterator[Event]:
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
            yield Event(run, self.recorder.record(run, error))
        worker.group = [run for run in worker.group if run not in lost]

    def __enter__(self) -> ProcessExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers: what they are at is not recorded, and will be done next time."""
        for worker in self._workers:
            worker.process.terminate()
            worker.process.join(_GOODBYE_SECONDS)
            worker.process.kill()
            worker.process.join()


def _context() -> Any:
    """Processes that inherit nothing: a fork of this one would share its threads and its GPU."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([Runner.__module__])  # torch is imported once for all workers
    return context


def _work(connection: Connection, suite: Suite, recorder: Recorder, threads: int, folder: str | None) -> None:
    """Life of a worker: groups in, events out, None after each group, until the pipe closes.

    An exception outside of a run, in the loading of a plugin say, is sent as text and ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_with_parent(partial(wait, [parent.sentinel]))
    if folder is not None:
        os.chdir(folder)  # it started in another, and paths may be relative
    sender = StageSender(connection)
    with suppress(EOFError, ConnectionError), pixels_limited(suite.max_pixels):
        try:
            torch.set_num_threads(threads)
            suite.load_plugins()
            executor = SerialExecutor(Runner(suite.replace(jobs=1)), recorder)
            while True:
                for event in executor.run_group(connection.recv()):
                    sender.send(event)
                sender.send(None)
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            sender.send(f"{type(error).__name__}: {' '.join(str(error).split())}")
