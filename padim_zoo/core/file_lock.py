"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows has no such locks
    fcntl = None


class FileLock:
    """A lock on a file, which is held until :meth:`release` or the end of the process.

    Parameters
    ----------
    path : Path
        The file.
    create : bool
        Whether the file is made, and removed at the release.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self._create = create
        self._descriptor: int | None = None

    def take(self, *, wait: bool = False) -> bool:
        """Whether nobody else holds it; where the system or the disk knows no locks, nobody does."""
        if fcntl is None:
            return True
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT if self._create else os.O_RDONLY, 0o666)
            except OSError:
                return True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(descriptor)
                return False
            except OSError:
                os.close(descriptor)
                return True
            if _is_still(self.path, descriptor):
                self._descriptor = descriptor
                return True
            os.close(descriptor)  # another process has removed or replaced the file meanwhile
            if not self._create:
                return False

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor is None:
            return
        if self._create:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        with suppress(OSError):
            # To close it is not enough: a process that was forked meanwhile has it open too.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = None


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Read a small file and write it anew while no other process does so; wait until none does.

    The lock is on the folder, for the file itself is replaced, or is not there yet.
    """
    folder = Path(os.path.realpath(path)).parent
    with suppress(OSError):  # which the write tells
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder)
    lock.take(wait=True)
    try:
        yield
    finally:
        lock.release()


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False
