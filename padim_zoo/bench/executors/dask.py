"""Groups on the workers of a Dask cluster. The client writes the store, as each group comes back."""

from __future__ import annotations

import json
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, Queue
from typing import Any

from distributed.scheduler import KilledWorker

from padim_zoo.backbones.device import resolve_device, resolve_precision
from padim_zoo.bench.build import runtime_of
from padim_zoo.bench.executors.cluster import Cluster, Note, connect
from padim_zoo.bench.executors.executor import Event, Recorder
from padim_zoo.bench.executors.messages import (
    DATA_ROOT,
    Reply,
    first_difference,
    plugins_to_json,
    runs_to_json,
    suite_to_json,
)
from padim_zoo.bench.executors.versions import describe_versions
from padim_zoo.bench.run import Run
from padim_zoo.bench.shard import split_groups
from padim_zoo.bench.suite import Suite
from padim_zoo.core.errors import InputError
from padim_zoo.runtimes.runtime import AUTO, TORCH

_WAIT_SECONDS = 1.0
_PER_WORKER = 2
"""Parts that there should be for each worker."""
_IN_FLIGHT = 4
"""Groups on their way for each worker: one that runs, one that waits beside it, and others that go together."""


class KilledWorkerError(RuntimeError):
    """Workers died while they were at a run, as often as the scheduler allows."""


_INNOCENT_DEATHS = 3
"""How often a run may be lost beside another that kills its worker."""
_MOST_DROPS = 3
"""How often a group goes again that the cluster dropped, as in a restart."""


@dataclass
class _Task:
    """A group in flight, and whether a worker has begun it."""

    future: Any
    runs: list[Run]
    begun: bool = False


class DaskExecutor:
    """Does groups on a Dask cluster.

    Parameters
    ----------
    suite : Suite
        Its plugins are loaded.
    recorder : Recorder
    note : callable
        Is told what there is to say of the cluster.
    """

    def __init__(self, suite: Suite, recorder: Recorder, note: Note) -> None:
        self.suite = suite
        self.recorder = recorder
        self._claims = recorder.claims()
        self._note = note
        self._stack = ExitStack()
        self._tasks: dict[str, _Task] = {}
        self._waiting: deque[list[Run]] = deque()
        self._deaths: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._happened: Queue[tuple[_Task | None, Any]] = Queue()
        self._topic = f"padim-zoo-{uuid.uuid4().hex}"
        precision = resolve_precision("auto", resolve_device(suite.device))
        runtime = runtime_of(suite)
        if runtime == AUTO:
            note("--runtime auto is torch on a cluster, whose workers may differ: name another to have all use it")
            runtime = TORCH
        self._request = {
            "suite": suite_to_json(suite.replace(runtime=None) if suite.runtime == AUTO else suite),
            "plugins": plugins_to_json(suite.plugin),
            "versions": describe_versions(),
            "precision": precision if suite.precision == "auto" else None,
            "runtime": runtime,
        }
        self._cluster: Cluster

    def run(self, in_groups: Sequence[list[Run]]) -> Iterator[Event]:
        """Do groups of runs.

        Raises
        ------
        ClusterLostError
            If the scheduler is gone.
        """
        self._waiting.extend(split_groups(in_groups, len(self._cluster.threads_by_worker()), _PER_WORKER))
        while self._waiting or self._tasks:
            yield from self._fill(_IN_FLIGHT * max(1, len(self._cluster.threads_by_worker())))
            for task, told in self._news():
                if task is None:
                    yield from self._begin(told)
                else:
                    del self._tasks[task.future.key]
                    yield from self._receive(task, told)

    def _tell(self, task: _Task | None, told: Any) -> None:
        self._happened.put((task, told))

    def _news(self) -> Iterator[tuple[_Task | None, Any]]:
        """What has happened by now, if need be after a while: a task and its outcome, or None and a run that begins."""
        with suppress(Empty):
            yield self._happened.get(timeout=_WAIT_SECONDS)
            while True:
                yield self._happened.get_nowait()

    def _fill(self, most: int) -> Iterator[Event]:
        """Send groups on their way until so many are. Those that go together cost Dask less than one by one."""
        from padim_zoo.bench.executors.task import run_group

        batch: list[list[Run]] = []
        while self._waiting and len(self._tasks) + len(batch) < most:
            yield from self._claim(self._waiting.popleft(), batch)
        if not batch:
            return
        shared = {**self._request, "workers_by_host": self._cluster.workers_by_host()}
        requests = [json.dumps({**shared, "runs": runs_to_json(runs)}) for runs in batch]
        keys = [f"run_group-{uuid.uuid4().hex}" for _ in batch]
        futures = self._cluster.client.map(run_group, requests, [self._topic] * len(batch), key=keys, pure=False)
        for key, future, runs in zip(keys, futures, batch, strict=True):
            self._tasks[key] = task = _Task(future, runs)
            self._cluster.follow(future, partial(self._tell, task))

    def _claim(self, group: list[Run], batch: list[list[Run]]) -> Iterator[Event]:
        """Add a group to those that are sent, but for the runs that another process did or is at."""
        self._claims.take(run.id for run in group if self.recorder.completed(run) is None)
        mine = []
        for run in group:
            meanwhile = self.recorder.completed(run)
            if meanwhile is not None:
                self._claims.release(run.id)
                yield Event(run, meanwhile)
            elif run.id not in self._claims:
                yield Event(run, elsewhere=True)
            else:
                mine.append(run)
        if mine:
            batch.append(mine)

    def _begin(self, run_id: str) -> Iterator[Event]:
        for task in self._tasks.values():
            for run in task.runs:
                if run.id == run_id:
                    task.begun = True
                    workers = len(self._cluster.threads_by_worker())
                    yield Event(run, cluster=f"{workers} workers, {len(self._tasks)} tasks in flight")

    def _receive(self, task: _Task, outcome: Any) -> Iterator[Event]:
        """Record the runs of a group that has ended, one way or another."""
        try:
            if not isinstance(outcome, Exception):
                yield from self._record(task, Reply.from_message(outcome))
            elif task.future.status != "error":
                yield from self._send_again(task, outcome)
            elif isinstance(outcome, KilledWorker):
                yield from self._blame(task, outcome.allowed_failures + 1)
            else:
                yield from self._fail(task, RuntimeError(f"the worker failed: {type(outcome).__name__}: {outcome}"))
        finally:
            self._claims.release(*(run.id for run in task.runs))
            task.future.release()

    def _send_again(self, task: _Task, error: Exception) -> Iterator[Event]:
        """Do a group again that the cluster dropped, unless its scheduler is gone."""
        reason = self._cluster.why_dropped(task.future, error)
        if reason is None:
            raise self._cluster.lost() from error
        self._drops.update(run.id for run in task.runs)
        times = max(self._drops[run.id] for run in task.runs)
        if times > _MOST_DROPS:
            yield from self._fail(task, RuntimeError(f"the cluster dropped it {times} times, at last: {reason}"))
        else:
            self._waiting.append(task.runs)

    def _blame(self, task: _Task, times: int) -> Iterator[Event]:
        """Find the run of a group that has lost its workers so many times: each goes again by itself."""
        if len(task.runs) > 1:
            self._waiting.extendleft([run] for run in reversed(task.runs))
            return
        [run] = task.runs
        self._deaths[run.id] += 1
        if not task.begun and self._deaths[run.id] < _INNOCENT_DEATHS:  # it only waited beside the one that kills
            self._waiting.append(task.runs)
            return
        died = f"{times} workers died while they were at this run; out of memory? see the logs of the workers"
        yield from self._fail(task, KilledWorkerError(died))

    def _record(self, task: _Task, reply: Reply) -> Iterator[Event]:
        if reply.refusal is not None:
            yield from self._fail(task, InputError(reply.refusal + self._difference(task, reply)))
            return
        runs = {run.id: run for run in task.runs}
        for run_id, files in reply.recorded:
            document = self.recorder.write(run_id, files)
            self._claims.release(run_id)
            yield Event(runs[run_id], document)

    def _difference(self, task: _Task, reply: Reply) -> str:
        """Which file of a worker's copy is the first that differs."""
        if reply.manifest is None:
            return ""
        own = self.suite.open_dataset().load(task.runs[0].config.category).manifest()
        return f": {first_difference(own, reply.manifest)}; give it the same files by {DATA_ROOT}"

    def _fail(self, task: _Task, error: Exception) -> Iterator[Event]:
        for run in task.runs:
            yield Event(run, self.recorder.record(run, error))

    def __enter__(self) -> DaskExecutor:
        suite = self.suite
        connection = connect(suite.cluster, insecure=suite.insecure, jobs=suite.jobs, note=self._note)
        self._cluster = self._stack.enter_context(connection)
        self._cluster.client.subscribe_topic(self._topic, lambda event: self._tell(None, event[1]))
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what is queued. What runs is looked at between two runs: a worker stops where nobody waits."""
        with suppress(Exception):  # of a scheduler that is gone
            self._cluster.client.cancel([task.future for task in self._tasks.values()])
        self._claims.release()
        self._stack.close()
