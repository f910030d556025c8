"""How far a running benchmark is, told to other processes by a small file in its run store.

``.<host>.<pid>.bench`` in the folder of the store holds a :class:`BenchState` as JSON. It appears with the first run,
is written again at every event and removed at the end. It is news and no record: where it cannot be written the
benchmark goes on without, and a process that was killed leaves one behind, which :meth:`RunStore.clean` removes.

A watcher reads such a store again and again, each document once, for as long as its file is the same.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from padim_zoo.bench.status import has_failed
from padim_zoo.bench.store import DamagedRunError, Document, RunStore, read_document
from padim_zoo.core.atomic_write import write_bytes_whole
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.core.progress import open_stages, remaining

if TYPE_CHECKING:
    from padim_zoo.bench.executors.executor import Event

SUFFIX = ".bench"

FOLLOW_SECONDS = 2.0
"""Between two looks at what this process is at."""


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
    doing : dict of str to str
        What those are at, such as images that are read, by id.
    informed : float
        Seconds since the epoch, when the last run was recorded.
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
    doing: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    informed: float = 0.0
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    cluster: str = ""

    def is_sane(self) -> bool:
        """Whether numbers are numbers and texts are texts, in a state that was read from a file."""
        numbers = (self.total, self.before, self.done, self.failed, self.pid)
        return (
            all(isinstance(number, int) and number >= 0 for number in numbers)
            and all(isinstance(moment, (int, float)) for moment in (self.started, self.informed))
            and isinstance(self.host, str)
            and isinstance(self.cluster, str)
            and all(isinstance(texts, dict) for texts in (self.running, self.doing))
            and all(isinstance(text, str) for text in (*self.running.values(), *self.doing.values()))
        )

    def take(self, event: Event) -> None:
        """Count a run that begins, is at work, or is recorded."""
        self.cluster = event.cluster or self.cluster
        if event.document is None:
            self.running[event.run.id] = str(event.run)
            self.doing[event.run.id] = event.doing
            return
        self.running.pop(event.run.id, None)
        self.doing.pop(event.run.id, None)
        self.done += 1
        self.informed = time.time()
        self.failed += has_failed(event.document)

    def look_around(self) -> bool:
        """Take over what this process is at, if it does the one run itself; whether that is news."""
        stages = open_stages()
        if len(self.running) != 1 or not stages:
            return False
        run, doing = next(iter(self.running)), str(stages[0])
        changed = self.doing.get(run) != doing
        self.doing[run] = doing
        return changed

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
        """At the rate so far; None before the first run is recorded. It only falls until another one is."""
        own = self.done - self.before
        if not own:
            return None
        return remaining((self.total - self.done) * (self.informed - self.started) / own, now - self.informed)


@contextmanager
def heartbeat(store: RunStore, state: BenchState) -> Iterator[SignOfLife]:
    """Keep the file of a benchmark's state while it runs."""
    sign = SignOfLife(store.folder / f".{state.host}.{state.pid}{SUFFIX}", state)
    over = threading.Event()
    thread = threading.Thread(target=sign.follow, args=(over,), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield sign
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            sign.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class SignOfLife:
    """The file of a benchmark's state."""

    path: Path
    state: BenchState
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, event: Event) -> None:
        """Count an event and tell it."""
        with self.lock:
            self.state.take(event)
            self._write()

    def follow(self, over: threading.Event) -> None:
        """Tell now and then what this process is at, until it is over."""
        while not over.wait(FOLLOW_SECONDS):
            with self.lock:
                if self.state.look_around():
                    self._write()

    def _write(self) -> None:
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


class StoreWatcher:
    """What is in a run store, now.

    Parameters
    ----------
    folder : Path
        Need not be there yet.

    Attributes
    ----------
    documents : list of dict
        As of the last :meth:`poll`, by id.
    benches : list of BenchState
        The benchmarks at work.
    died : list of BenchState
        Those that were seen at work and whose process went without taking leave.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.documents: list[Document] = []
        self.benches: list[BenchState] = []
        self.died: list[BenchState] = []
        self._seen: set[tuple[str, int, float]] = set()
        self._read: dict[str, tuple[tuple[int, int, int], Document | None]] = {}

    def poll(self) -> bool:
        """Look again; whether documents have changed."""
        states = read_states(self.folder)
        self.benches = [state for state in states if state.alive]
        self._seen.update((state.host, state.pid, state.started) for state in self.benches)
        self.died = [
            state for state in states if not state.alive and (state.host, state.pid, state.started) in self._seen
        ]
        documents: dict[str, tuple[tuple[int, int, int], Document | None]] = {}
        for path in sorted(self.folder.glob("*.json")):
            try:
                status = path.stat()
            except OSError:  # it has gone meanwhile
                continue
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            entry = self._read.get(path.name)
            if entry is None or entry[0] != version:
                document = None
                with suppress(DamagedRunError):  # a file that is none is not this reader's to complain of
                    document = read_document(path)
                entry = version, document
            documents[path.name] = entry
        changed = documents != self._read
        self._read = documents
        if changed:
            self.documents = [document for _, document in documents.values() if document is not None]
        return changed

    @property
    def over(self) -> bool:
        """Whether the benchmarks that were seen at work have ended."""
        return bool(self._seen) and not self.benches
