"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from padim_zoo.core.errors import InputError
from padim_zoo.core.printable import encodable


def write_whole(path: str | Path, write: Callable[[Path], None], *, durable: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    The data reach the disk before the rename, and the rename before the return. So a crash at any moment leaves the
    old file or the new one. Without ``durable`` nothing waits for the disk: the same holds of a process that is
    killed, but not of a power failure. What a killed process leaves, :func:`is_abandoned` tells.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _create_beside(path)
        permissions = temporary.stat().st_mode
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; expected a folder that can be written to"
        ) from None
    try:
        write(temporary)
        # safetensors puts a file of its own in place of the one that it is given, readable by its owner alone.
        temporary.chmod(permissions)
        if durable:
            _flush(temporary)
        os.replace(temporary, path)
        if durable and os.name == "posix":
            _flush(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _create_beside(path: Path) -> Path:
    """A new empty file that only its maker knows.

    Not by tempfile, whose files are readable by their owner alone. A file that is opened has the permissions that the
    process gives any of its files, and the umask, which can only be read by setting it, need not be known.
    """
    writer = f"{socket.gethostname()}.{os.getpid()}"
    start = os.fsdecode(os.fsencode(path.name)[:100])  # a file system counts bytes
    temporary = path.with_name(f".{start}.{writer}.{secrets.token_hex(8)}.tmp")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_abandoned(path: Path) -> bool:
    """Whether a hidden file names its writer, as in ``.…HOST.PID.…``, and that process of this machine is gone."""
    import psutil  # too slow for the start of every command

    match = re.fullmatch(rf"\.(?:.+\.)?{re.escape(socket.gethostname())}\.([0-9]+)\..+", path.name)
    try:
        return match is not None and not psutil.pid_exists(int(match[1]))
    except OverflowError:  # no process has such a number
        return True


def write_bytes_whole(path: str | Path, content: bytes, *, durable: bool = True) -> None:
    """Write bytes to ``path``, whole or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_whole(path, write, durable=durable)


def write_text_whole(path: str | Path, text: str) -> None:
    """Write UTF-8 text to ``path``, whole or not at all; what UTF-8 does not take is escaped."""
    write_bytes_whole(path, encodable(text).encode())
