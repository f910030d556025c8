"""How far a running benchmark is, told to other processes by a small file in its run store.

``.<host>.<pid>.bench`` in the folder of the store holds a :class:`BenchState` as JSON. It appears with the first run,
is written again at every event and removed at the end. It is news and no record: where it cannot be written the
benchmark goes on without, and a process that was killed leaves one behind, which :meth:`RunStore.clean` removes.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from padim_zoo.bench.store import RunStore
from padim_zoo.core.atomic_write import write_bytes_whole
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json

if TYPE_CHECKING:
    from padim_zoo.bench.executors.executor import Event

SUFFIX = ".bench"


@dataclass
class BenchState:
    """How far a benchmark is.

    Attributes
    ----------
    total : int
        Runs asked for.
    before : int
        Runs that were done before it began.
    done, failed : int
        Runs that are recorded, those of before included, and how many of them failed.
    running : dict of str to str
        The runs in flight, in words, by id.
    started : float
        Seconds since the epoch.
    host, pid
        The process that does the runs.
    cluster : str
        How many workers there are, in words; empty without a cluster.
    """

    total: int
    before: int = 0
    done: int = 0
    failed: int = 0
    running: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    cluster: str = ""

    def is_sane(self) -> bool:
        """Whether numbers are numbers and texts are texts, in a state that was read from a file."""
        numbers = (self.total, self.before, self.done, self.failed, self.pid)
        return (
            all(isinstance(number, int) and number >= 0 for number in numbers)
            and isinstance(self.started, (int, float))
            and isinstance(self.host, str)
            and isinstance(self.cluster, str)
            and isinstance(self.running, dict)
            and all(isinstance(text, str) for text in self.running.values())
        )

    def take(self, event: Event) -> None:
        """Count a run that begins or is recorded."""
        self.cluster = event.cluster or self.cluster
        if event.document is None:
            self.running[event.run.id] = str(event.run)
            return
        self.running.pop(event.run.id, None)
        self.done += 1
        self.failed += event.document["status"] == "failed"

    @property
    def alive(self) -> bool:
        """Whether its process is there; of another machine's process, so far as one knows."""
        if self.host != socket.gethostname():
            return True
        try:
            process = psutil.Process(self.pid)
            # A younger process has inherited the number, and a zombie only waits to be buried.
            return process.create_time() <= self.started + 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def seconds_left(self, now: float) -> float | None:
        """At the rate so far; None before the first run is recorded."""
        own = self.done - self.before
        return (self.total - self.done) * (now - self.started) / own if own else None


@contextmanager
def heartbeat(store: RunStore, state: BenchState) -> Iterator[SignOfLife]:
    """Keep the file of a benchmark's state while it runs."""
    sign = SignOfLife(store.folder / f".{state.host}.{state.pid}{SUFFIX}", state)
    try:
        yield sign
    finally:
        with suppress(OSError):
            sign.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class SignOfLife:
    """The file of a benchmark's state."""

    path: Path
    state: BenchState

    def take(self, event: Event) -> None:
        """Count an event and tell it."""
        self.state.take(event)
        with suppress(InputError):
            write_bytes_whole(self.path, json.dumps(asdict(self.state)).encode(), durable=False)


def read_states(folder: Path) -> list[BenchState]:
    """What the benchmarks that write to a store say of themselves, the oldest first; other files are skipped."""
    states = []
    for path in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError, ValueError, TypeError):
            state = BenchState(**read_json(path.read_text(encoding="utf-8")))
            if state.is_sane():
                states.append(state)
    return sorted(states, key=lambda state: state.started)
