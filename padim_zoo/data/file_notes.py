"""What is to be said of how files were read: one warning for each kind of note, never one for each file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local

BACKGROUND = 0
"""The gray level that transparent pixels are laid on."""

NOTES = {
    "transparent": "images are partly transparent: they are laid on black, so what is hidden does not count",
    "cmyk": "images are CMYK: they are converted to RGB without their color profile",
    "pages": "images have several pages: only the first is read",
    "frames": "images are animated: only the first frame is read",
    "deeper": "images have brighter samples than the bit depth of the model allows: these are cut at white; "
    "fit again, or say --bit-depth",
    "shallower": "images use fewer bits than the bit depth of the model: they are darker than they should be; "
    "fit again, or say --bit-depth",
    "gray mask": "masks have many gray levels: they are cut at half of their maximum",
    "alpha mask": "masks are drawn in their alpha channel: what is opaque is marked",
    "mask pages": "masks have several pages: the marks of all pages of the image's size are united",
    "inverted mask": "masks mark most of the image, or all of its border: look whether black and white are swapped",
    "unmarked": "masks of anomalous images mark no pixel",
    "turned mask": "masks were drawn on the stored pixels of a turned image: they are turned with it",
    "orientation": "masks fit their image both as stored and as turned by its EXIF orientation: they are taken as "
    "drawn on the upright image; --mask-orientation decides",
}
"""What each kind of note says of its files, in the order of docs/image-files.md."""

_thread = local()


class FileNotes:
    """Notes of files, by kind; threads may add to it."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, None]] = {}
        self._deep_enough = False
        self._lock = Lock()

    def add(self, kind: str, name: str) -> None:
        """Note something of a file."""
        with self._lock:
            self.files.setdefault(kind, {})[name] = None

    def deep_enough(self) -> None:
        """Note that a file uses all bits that the model counts with, so that darker ones are just dark."""
        self._deep_enough = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let :func:`note` in this thread add to these."""
        before = getattr(_thread, "notes", None)
        _thread.notes = self
        try:
            yield
        finally:
            _thread.notes = before

    def by_kind(self) -> dict[str, list[str]]:
        """The names of the files of each kind, in the order of the table."""
        silent = {"shallower"} if self._deep_enough else set()
        return {kind: list(self.files[kind]) for kind in NOTES if kind in self.files and kind not in silent}

    def tell(self) -> None:
        """Warn of each kind once, with the number of files and the first."""
        for kind, files in self.by_kind().items():
            warnings.warn(f"{len(files)} {NOTES[kind]} (the first: {min(files)})", stacklevel=3)


@contextmanager
def collecting() -> Iterator[FileNotes]:
    """Collect the notes of this thread, and tell them at the end; within another collection, those are its notes."""
    outer = current()
    notes = FileNotes() if outer is None else outer
    try:
        with notes.listening():
            yield notes
    finally:
        if outer is None:
            notes.tell()


def current() -> FileNotes | None:
    """The collection that listens in this thread."""
    return getattr(_thread, "notes", None)


def note(kind: str, name: str) -> None:
    """Note something of a file, if anyone listens."""
    notes = current()
    if notes is not None:
        notes.add(kind, name)
