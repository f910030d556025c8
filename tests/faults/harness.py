"""Runs one command after the other in forks of a process that has imported torch and computed nothing."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

SECONDS = 20.0
ABOVE_BYTES = 1.5e9
_ROOM_BYTES = 6 * 10**9
_LONGEST_LOOK = 1.0
"""Seconds between two looks: longer ones are of a machine that was suspended, or busy with other work."""
_PROGRESS = 0.05
"""Seconds of processor time that show that a command does not merely wait."""


@dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Attributes
    ----------
    code : int or None
        Exit code; None if a signal ended it.
    output : str
        Standard output and error.
    stdout : str
        Standard output alone.
    seconds : float
        Of processor time, which other work on the machine does not make longer.
    hung : bool
        Whether it was ended, for it computed or waited for too long.
    peak : int
        Bytes of memory.
    """

    code: int | None
    output: str
    stdout: str
    seconds: float
    hung: bool
    peak: int

    @property
    def verdict(self) -> str:
        """In a word: ``accepted``, ``refused``, ``traceback``, ``crash`` or ``hang``."""
        if self.hung:
            return "hang"
        if self.code is None:
            return "crash"
        if "Traceback (most recent call last)" in self.output:
            return "traceback"
        if self.code == 0:
            return "accepted"
        lines = [line for line in self.output.splitlines() if line.startswith("Error: ")]
        # Code 1 is of what was done in part, such as a table of problems.
        return "refused" if self.code == 1 or (self.code in (2, 3) and lines) else "traceback"


def fork(work: Callable[[], None], log: Path, seconds: float = SECONDS) -> Outcome:
    """Do some work in a fork, its output in a file; it may compute for so many seconds, and idle as long at a time."""
    pid = os.fork()
    if pid == 0:
        _live(work, log)
    child, hung = psutil.Process(pid), False
    used, idle, looked = 0.0, 0.0, time.monotonic()
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            break
        now, before, looked = _processor_seconds(child), looked, time.monotonic()
        idle += min(looked - before, _LONGEST_LOOK)
        if now > used + _PROGRESS:
            used, idle = now, 0.0
        if now > seconds or idle > seconds:
            hung = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    stdout = log.read_text(errors="replace")
    output = stdout + log.with_suffix(".err").read_text(errors="replace")
    seconds = usage.ru_utime + usage.ru_stime
    return Outcome(code if code >= 0 else None, output, stdout, seconds, hung, usage.ru_maxrss * 1024)


def _processor_seconds(child: psutil.Process) -> float:
    try:
        times = child.cpu_times()
    except psutil.Error:  # it has just ended
        return 0.0
    return float(times.user + times.system)


def _live(work: Callable[[], None], log: Path) -> None:
    """The life of a fork."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream, file in [(1, log), (2, log.with_suffix(".err"))]:
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", errors="backslashreplace") for stream in (1, 2))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _ROOM_BYTES,) * 2)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(*arguments: object) -> Callable[[], None]:
    """The command line with some arguments."""

    def work() -> None:
        from padim_zoo.cli.main import main

        main([str(argument) for argument in arguments])

    return work


def scores_in(output: str) -> list[str]:
    """The scores that ``predict`` printed."""
    return [match[1] for line in output.splitlines() if (match := re.match(r"[^,]+,([-0-9.e+]+),", line))]
