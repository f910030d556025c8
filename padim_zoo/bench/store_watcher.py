"""A run store that others write to, read again and again: each document once, for as long as its file is the same."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from padim_zoo.bench.running import BenchState, read_states
from padim_zoo.bench.store import DamagedRunError, Document, read_document


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
