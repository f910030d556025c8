"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from padim_zoo.core.errors import WriteError
from padim_zoo.core.printable import encodable

_TEMPORARY = re.compile(r"\..+\.[0-9]+\.[0-9a-f]{16}\.tmp")
_cleaned: set[str] = set()
"""Folders from which this process has removed what others left."""


def write_whole(path: str | Path, write: Callable[[Path], None], *, durable: bool = True) -> None:
    """Let ``write`` fill a temporary file in a folder beside ``path``, then rename it into place.

    The data reach the disk before the rename, and the rename before the return. So a crash at any moment leaves the
    old file or the new one. Without ``durable`` nothing waits for the disk: the same holds of a process that is
    killed, but not of a power failure. What killed processes left in the folder is removed.

    A link is followed. A pipe or a device is written to, not replaced.

    Raises
    ------
    WriteError
        If the folder or the disk cannot be written to.
    """
    path = Path(os.path.realpath(path))  # the name that a link leads to, which need not exist
    with _errors_of_writing(path):
        if _is_special(path):
            _write_through(path, write)
            return
        with draft_folder(path) as draft:
            temporary = draft / path.name
            # Not by tempfile, whose files are readable by their owner alone. A file that is opened has the permissions
            # that the process gives any of its files, and the umask, which can only be read by setting it, need not be
            # known.
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            permissions = temporary.stat().st_mode
            write(temporary)
            # safetensors puts a file of its own in place of the one that it is given, readable by its owner alone.
            temporary.chmod(permissions)
            _put_in_place(temporary, path, durable=durable)


def write_bytes_whole(path: str | Path, content: bytes, *, durable: bool = True) -> None:
    """Write bytes to ``path``, whole or not at all: :func:`write_whole` without a folder, in half the time."""
    path = Path(os.path.realpath(path))
    if _is_special(path):

        def write(temporary: Path) -> None:
            temporary.write_bytes(content)

        write_whole(path, write)
        return
    with _errors_of_writing(path):
        temporary = _name_of_draft(path)
        try:
            with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o666)) as file:
                file.write(content)
            _put_in_place(temporary, path, durable=durable)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _put_in_place(temporary: Path, path: Path, *, durable: bool) -> None:
    if durable:
        flush(temporary)
    os.replace(temporary, path)
    if durable and os.name == "posix":
        flush(path.parent)


@contextmanager
def _errors_of_writing(path: Path) -> Iterator[None]:
    """Raise what the system says of a file as a WriteError."""
    try:
        yield
    except OSError as error:
        raise WriteError(path, error.strerror or str(error), error.errno) from None
    except Exception as error:
        number = _number_of(error)
        if number is None:
            raise
        raise WriteError(path, os.strerror(number), number) from None


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, to draft in what will be there; removed at the end, however that comes.

    Nobody can guess its name. A library may leave files of its own in it. What killed processes left beside it is
    removed.
    """
    draft = _name_of_draft(path)
    try:
        draft.mkdir()
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _name_of_draft(path: Path) -> Path:
    """A name beside ``path`` that nobody has and nobody guesses; makes the folder, and cleans it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from None
    _remove_abandoned(path.parent)
    start = os.fsdecode(os.fsencode(path.name)[:100])  # a file system counts bytes
    return path.with_name(f".{start}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(8)}.tmp")


def _is_special(path: Path) -> bool:
    """Whether there is something that is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _write_through(path: Path, write: Callable[[Path], None]) -> None:
    """Write to a pipe or device what ``write`` makes; a pipe that nobody reads from is an error, not a wait."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, path.name)
        temporary.touch()
        write(temporary)
        descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
        if hasattr(os, "set_blocking"):
            os.set_blocking(descriptor, True)
        with temporary.open("rb") as made, open(descriptor, "wb") as target:
            shutil.copyfileobj(made, target)


def _number_of(error: Exception) -> int | None:
    """The number of the system's error within one of safetensors', which has it in its text alone."""
    found = re.search(r"\(os error ([0-9]+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(found[1]) if found else None


def check_writable(folder: Path) -> None:
    """Make a folder, and a file in it for a moment.

    Raises
    ------
    WriteError
        If that cannot be.
    """
    try:
        with draft_folder(folder / "writable") as draft:
            (draft / "file").write_bytes(bytes(4096))
            flush(draft / "file")
    except OSError as error:
        raise WriteError(folder, error.strerror or str(error), error.errno) from None


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes of this machine left half written; once for each folder."""
    key = os.path.abspath(folder)
    if key in _cleaned:
        return
    _cleaned.add(key)
    with suppress(OSError):
        for path in folder.glob(".*.tmp"):
            if _TEMPORARY.fullmatch(path.name) and is_abandoned(path):
                discard(path)


def discard(path: Path) -> None:
    """Remove a file, or a folder with all that it holds; a link, and not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_abandoned(path: Path) -> bool:
    """Whether a hidden name has its writer in it, as in ``.…HOST.PID.…``, and that process of this machine is gone."""
    import psutil  # too slow for the start of every command

    match = re.fullmatch(rf"\.(?:.+\.)?{re.escape(socket.gethostname())}\.([0-9]+)\..+", path.name)
    try:
        return match is not None and not psutil.pid_exists(int(match[1]))
    except OverflowError:  # no process has such a number
        return True


def write_text_whole(path: str | Path, text: str) -> None:
    """Write UTF-8 text to ``path``, whole or not at all; what UTF-8 does not take is escaped."""
    write_bytes_whole(path, encodable(text).encode())
