"""The scores of many images as a file that grows row by row, so that nothing is lost when the work is cut short.

Rows go to ``FILE.part``, whose first line says which model and options they are of. At the end they are written in the
order of the images to ``FILE``, and the part is removed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TextIO

from padim_zoo.core.atomic_write import write_text_whole
from padim_zoo.core.errors import InputError, WriteError
from padim_zoo.core.file_lock import FileLock, changing
from padim_zoo.core.printable import printable, without_formula
from padim_zoo.detectors.image_poses import POSE_COLUMNS

_LENGTH = 8
"""Bytes before the header of a safetensors file, which hold its length."""


@dataclass(frozen=True)
class Row:
    """What is written of one image."""

    path: str
    score: float | None = None
    threshold: float | None = None
    anomalous: bool | None = None
    error: str | None = None
    pose: Mapping[str, float | None] = field(default_factory=dict)


COLUMNS = tuple(each.name for each in fields(Row) if each.name != "pose")


def columns(*, poses: bool) -> tuple[str, ...]:
    """The columns of all models, and those of poses where a model brings parts to one."""
    return (*COLUMNS, *POSE_COLUMNS) if poses else COLUMNS


def digest_of_model(path: Path) -> str:
    """The SHA-256 of a model: of the header, which holds the hashes of all arrays, or of an exported file as a whole.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if path.suffix.lower() not in (".onnx", ".xml", ".pt2"):
                length = file.read(_LENGTH)
                return hashlib.sha256(file.read(int.from_bytes(length, "little"))).hexdigest()
            return hashlib.sha256(file.read()).hexdigest()
    except (OSError, OverflowError, MemoryError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def is_stream(target: str) -> bool:
    """Whether scores go to standard output, a pipe or a device, and not to a file."""
    path = Path(target)
    return target == "-" or (path.exists() and not path.is_file() and not path.is_dir())


class ScoreFile:
    """Rows on their way to a file.

    Parameters
    ----------
    target : Path
    as_json : bool
        JSON instead of CSV.
    poses : bool
        Whether rows have poses.
    """

    def __init__(self, target: Path, *, as_json: bool, poses: bool = False) -> None:
        self.target, self.as_json, self.poses = target, as_json, poses
        self.part = Path(f"{os.path.realpath(target)}.part")
        self.about: dict[str, Any] = {}
        self._rows: dict[str, Row] = {}
        self._file: TextIO | None = None
        self._lock = FileLock(self.part)

    def begin(self, about: Mapping[str, Any], *, resume: bool) -> None:
        """Open the part; with ``resume``, after the rows of an earlier call.

        Parameters
        ----------
        about : mapping
            The model and the options: a part of others is not gone on with.
        resume : bool

        Raises
        ------
        InputError
            If there is a part that is not to be gone on with, or that another process is writing, or it is of another
            model or other options.
        WriteError
            If it cannot be written to.
        """
        self.about = json.loads(json.dumps(about))
        if self.target.is_dir():
            raise InputError(f"{self.target} is a folder: expected the name of a file for the scores")
        with changing(self.part):
            if not (lock := FileLock(self.part)).take():
                raise InputError(
                    f"{self.part} is being written by another process: wait for it, or name another file for the scores"
                )
            lock.release()
            self._take_over(resume=resume)
            self._open()

    def _take_over(self, *, resume: bool) -> None:
        """Read the rows of an earlier call."""
        if not self.part.exists():
            return
        rows = max(0, self._text_of_part().count("\n") - (1 if self.as_json else 2))
        if rows and not resume:
            raise InputError(
                f"{self.part} holds {rows} rows of a call that was cut short: go on with --resume, or delete it"
            )
        if rows:
            self._rows = {without_formula(row.path): row for row in self._read() if row.error is None}

    def _open(self) -> None:
        try:
            self.part.parent.mkdir(parents=True, exist_ok=True)
            write_text_whole(self.part, self._first_lines() + "".join(map(self._line, self._rows.values())))
            self._file = self.part.open("a", encoding="utf-8", newline="")
            self._lock.take()
        except OSError as error:
            self._remove_if_empty()
            raise WriteError(self.part, error.strerror or str(error), error.errno) from None
        except BaseException:  # a signal
            self._remove_if_empty()
            raise

    def __contains__(self, path: Path) -> bool:
        return without_formula(printable(path)) in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> None:
        """Write a row to the part at once.

        Raises
        ------
        WriteError
            If that cannot be.
        """
        assert self._file is not None
        self._rows[without_formula(row.path)] = row
        try:
            self._file.write(self._line(row))
            self._file.flush()
        except OSError as error:
            raise WriteError(self.part, error.strerror or str(error), error.errno) from None

    def finish(self, paths: Sequence[Path]) -> list[Row]:
        """Write the file, in the order of the images, and remove the part."""
        assert self._file is not None
        self._file.close()
        rows = [self._rows[without_formula(printable(path))] for path in paths]
        write_text_whole(self.target, to_text(rows, as_json=self.as_json, poses=self.poses))
        with suppress(OSError):
            self.part.unlink()
        self._lock.release()
        return rows

    def keep_or_remove(self) -> bool:
        """After an error: keep the part if it has rows, else remove it; whether it is kept."""
        assert self._file is not None
        self._file.close()
        self._remove_if_empty()
        self._lock.release()
        return bool(self._rows)

    def _remove_if_empty(self) -> None:
        if not self._rows:
            with suppress(OSError):
                self.part.unlink()

    def _first_lines(self) -> str:
        about = json.dumps(self.about, ensure_ascii=False)
        return f"{about}\n" if self.as_json else f"# {about}\n{','.join(columns(poses=self.poses))}\n"

    def _line(self, row: Row) -> str:
        names = columns(poses=self.poses)
        return json.dumps(_cells(row, names), ensure_ascii=False) + "\n" if self.as_json else _csv([row], names)

    def _text_of_part(self) -> str:
        try:
            return self.part.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {self.part}: {error}; delete it, and begin anew") from None

    def _read(self) -> list[Row]:
        """The rows of the part; the last one is left out if it was cut short."""
        whole, _, _ = self._text_of_part().rpartition("\n")
        first, *lines = whole.split("\n")
        try:
            about = dict(json.loads(first.removeprefix("# ")))
            rows = [_row_in(json.loads(line)) for line in lines] if self.as_json else _rows_in(lines)
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{self.part} is damaged: delete it, and begin anew") from None
        if about != self.about:
            raise InputError(f"{self.part} is of {_difference(about, self.about)}: give the same again, or delete it")
        lacking = [name for name in columns(poses=self.poses) if any(name not in (*COLUMNS, *row.pose) for row in rows)]
        if lacking:
            raise InputError(
                f"{self.part} was begun by an earlier version, without {', '.join(lacking)}: delete it, and begin anew"
            )
        return rows


def to_text(rows: Iterable[Row], *, as_json: bool, poses: bool = False) -> str:
    """Rows as the content of a file."""
    names = columns(poses=poses)
    if as_json:
        cells = [_cells(row, names) for row in rows]
        return json.dumps(cells, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return f"{','.join(names)}\n{_csv(rows, names)}"


def _cells(row: Row, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) if name in COLUMNS else row.pose.get(name) for name in names}


def _csv(rows: Iterable[Row], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    for row in rows:
        anomalous = None if row.anomalous is None else str(row.anomalous).lower()
        text_cells = {"path": without_formula(row.path), "error": row.error and without_formula(row.error)}
        writer.writerow({**_cells(row, names), **text_cells, "anomalous": anomalous})
    return text.getvalue()


def _rows_in(lines: Sequence[str]) -> list[Row]:
    rows = []
    for cells in csv.DictReader(lines):
        numbers = {name: float(cells[name]) if cells[name] else None for name in ("score", "threshold")}
        anomalous = {"true": True, "false": False, "": None}[cells["anomalous"]]
        pose = {name: float(cells[name]) if cells[name] else None for name in POSE_COLUMNS if name in cells}
        rows.append(Row(cells["path"], **numbers, anomalous=anomalous, error=cells["error"] or None, pose=pose))
    return rows


def _row_in(cells: Mapping[str, Any]) -> Row:
    pose = {name: cells[name] for name in POSE_COLUMNS if name in cells}
    return Row(**{name: value for name, value in cells.items() if name not in pose}, pose=pose)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Where the part differs from what is asked for, in words."""
    if before.get("model") != now["model"]:
        return "another model"
    old, new = before.get("options", {}), now["options"]
    options = [f"--{name} {old.get(name)} (now {value})" for name, value in new.items() if old.get(name) != value]
    return f"other options, {', '.join(options)}"
