"""How worker processes start, and when they end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from padim_zoo.core.environment_variables import environment_set
from padim_zoo.core.progress import open_stages

if TYPE_CHECKING:
    from padim_zoo.bench.executors.executor import Event

HANG_SECONDS = 600.0
"""A worker that neither computes nor reads for so long hangs."""
CHECK_SECONDS = 5.0
_IDLE_SHARE = 0.2
"""Of a processor. A worker that only waits takes a tenth: a thread of it measures memory."""


def current_folder() -> str | None:
    """The current folder; None if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


@contextmanager
def safe_path() -> Iterator[None]:
    """Start Python processes that import nothing from the current folder.

    Python 3.11 and later know a variable for that; earlier ones put the folder in which they start on their path, so
    they start in another. Workers go to the folder of their parent before they do anything.
    """
    folder = current_folder()  # of one that was removed there is nothing to import
    os.chdir(Path(os.sep).absolute())
    try:
        with environment_set({"PYTHONSAFEPATH": "1"}):
            yield
    finally:
        if folder is not None:
            os.chdir(folder)


STAGE_SECONDS = 2.0
"""Between two messages of what a worker is at."""


class StageSender:
    """Sends what a worker has to say, and now and then what its run is at.

    Parameters
    ----------
    connection : Connection
        To the parent.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        self._running: Event | None = None
        threading.Thread(target=self._send_stages, name="stages", daemon=True).start()

    def send(self, message: Event | str | None) -> None:
        """Send an event, the text of an error, or None after a group."""
        with self._lock:
            event = None if message is None or isinstance(message, str) else message
            self._running = event if event is not None and event.document is None and not event.elsewhere else None
            self.connection.send(message)

    def _send_stages(self) -> None:
        told = ""
        while True:
            time.sleep(STAGE_SECONDS)
            stages = open_stages()
            doing = str(stages[0]) if stages else ""
            with self._lock, suppress(OSError):
                if self._running is not None and doing != told:
                    self.connection.send(replace(self._running, doing=doing))
                    told = doing


@dataclass
class Idleness:
    """For how long a worker has neither computed nor read from a disk.

    Attributes
    ----------
    pid : int
    """

    pid: int
    _busy: float = -1.0
    _transferred: int = -1
    _idle: float = 0.0
    _checked: float = 0.0

    def seconds(self) -> float:
        """Seconds since it last did something, looked at from time to time.

        A long pause between two looks, as of a suspended machine, counts as one look.
        """
        now = time.monotonic()
        since = now - self._checked
        if since < CHECK_SECONDS / 2:
            return self._idle
        self._checked = now
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            times = process.cpu_times()
            busy, transferred = times.user + times.system, _bytes_transferred(process)
            moved = busy - self._busy > _IDLE_SHARE * since or transferred != self._transferred
            self._idle = 0.0 if moved else self._idle + min(since, 2 * CHECK_SECONDS)
            self._busy, self._transferred = busy, transferred
        return self._idle


def _bytes_transferred(process: psutil.Process) -> int:
    """Read from disks and written to them; 0 where the system does not count them."""
    try:
        counters = process.io_counters()
    except (AttributeError, psutil.AccessDenied):
        return 0
    return int(counters.read_bytes + counters.write_bytes)
