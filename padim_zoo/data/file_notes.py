"""What is to be said of how files were read: one warning for each kind of note, never one for each file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock, local
from typing import Any

from padim_zoo.core.fields import FieldError, Fields
from padim_zoo.core.numbers import in_number

BACKGROUND = 0
"""The gray level that transparent pixels are laid on."""

NOTES = {
    "transparent": "{images are|image is} partly transparent: {they are|it is} laid on black, so what is hidden does "
    "not count",
    "cmyk": "{images are|image is} CMYK: {they are|it is} converted to RGB without {their|its} color profile",
    "pages": "{images have|image has} several pages: only the first is read",
    "frames": "{images are|image is} animated: only the first frame is read",
    "deeper": "{images have|image has} brighter samples than the bit depth of the model allows: they are cut at "
    "white; fit again, or set --bit-depth",
    "shallower": "{images use|image uses} fewer bits than the bit depth of the model: {they are|it is} darker than "
    "{they|it} should be; fit again, or set --bit-depth",
    "gray mask": "{masks have|mask has} many gray levels: {they are|it is} cut at half of {their|its} maximum",
    "alpha mask": "{masks are|mask is} drawn in {their|its} alpha channel: what is opaque is marked",
    "mask pages": "{masks have|mask has} several pages: the marks of all pages of the image's size are united",
    "inverted mask": "{masks mark|mask marks} most of the image, or all of its border: check whether black and "
    "white are swapped",
    "unmarked": "{masks of anomalous images mark|mask of an anomalous image marks} no pixel",
    "turned mask": "{masks were|mask was} drawn on the stored pixels of a turned image: {they are|it is} turned with "
    "it",
    "orientation": "{masks fit their|mask fits its} image both as stored and as turned by its EXIF orientation: "
    "{they are|it is} read as drawn on the upright image; --mask-orientation decides",
}
"""What each kind of note says of its files, {of several|of one}, in the order of docs/image-files.md."""

DEEP_ENOUGH = "deep enough"
"""A kind that is never told: a file uses all bits that the model counts with, so that darker ones are just dark."""

_thread = local()


def counted(kind: str, count: int) -> str:
    """What a kind of note says of so many files."""
    return in_number(count, NOTES[kind])


class FileNotes:
    """Notes of files, by kind; threads may add to it."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, None]] = {}
        self._lock = Lock()

    def add(self, kind: str, name: str) -> None:
        """Note something of a file."""
        with self._lock:
            self.files.setdefault(kind, {})[name] = None

    def kinds_of(self, name: str) -> tuple[str, ...]:
        """What was noted of one file."""
        with self._lock:
            return tuple(kind for kind, names in self.files.items() if name in names)

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
        silent = {"shallower"} if DEEP_ENOUGH in self.files else set()
        return {kind: list(self.files[kind]) for kind in NOTES if kind in self.files and kind not in silent}

    def tell(self) -> None:
        """Warn of each kind once, with the number of files and the first."""
        for kind, files in self.by_kind().items():
            warnings.warn(f"{counted(kind, len(files))} (the first: {min(files)})", stacklevel=3)


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


@contextmanager
def overhearing() -> Iterator[FileNotes]:
    """Collect the notes of this thread for a second listener; the collection outside gets them too."""
    outer, notes = current(), FileNotes()
    try:
        with notes.listening():
            yield notes
    finally:
        if outer is not None:
            for kind, names in notes.files.items():
                for name in names:
                    outer.add(kind, name)


def stored_kinds(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of note that an entry of a cache holds.

    Raises
    ------
    FieldError
        If they are missing, or one is none.
    """
    kinds = Fields(about).array("notes")
    if not all(kind in (*NOTES, DEEP_ENOUGH) for kind in kinds):
        raise FieldError(f"notes are {kinds}: expected kinds of note")
    return tuple(kinds)


def note(kind: str, name: str) -> None:
    """Note something of a file, if anyone listens."""
    notes = current()
    if notes is not None:
        notes.add(kind, name)
