"""Which runs a process is at, so that another one on the same store does others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from padim_zoo.core.file_lock import FileLock

SUFFIX = ".claim"


class Claims:
    """The runs of one group that this process does.

    A claim is a lock on a hidden file in the store. It ends with its process.

    Parameters
    ----------
    folder : Path
        Of the run store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: dict[str, FileLock] = {}

    def take(self, run_ids: Iterable[str]) -> None:
        """Claim those runs that no other process is at."""
        for run_id in run_ids:
            lock = FileLock(self.folder / f".{run_id}{SUFFIX}", create=True)
            if lock.take():
                self._locks[run_id] = lock

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._locks

    def release(self, *run_ids: str) -> None:
        """Give runs up; all of them by default."""
        for run_id in run_ids or tuple(self._locks):
            if (lock := self._locks.pop(run_id, None)) is not None:
                lock.release()


def remove_stale(folder: Path) -> None:
    """Remove the claims of processes that are gone."""
    for path in folder.glob(f".*{SUFFIX}"):
        lock = FileLock(path, create=True)
        if lock.take():
            lock.release()
