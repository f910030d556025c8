"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from padim_zoo.core.errors import InputError


def write_whole(path: str | Path, write: Callable[[Path], None], *, durable: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    The data reach the disk before the rename, so a crash at any moment leaves the old file or the new one. Without
    ``durable`` nothing waits for the disk: the same holds of a process that is killed, but not of a power failure.

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
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _create_beside(path: Path) -> Path:
    """A new empty file that only its maker knows.

    Not by tempfile, whose files are readable by their owner alone. A file that is opened has the permissions that the
    process gives any of its files, and the umask, which can only be read by setting it, need not be known.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def write_bytes_whole(path: str | Path, content: bytes) -> None:
    """Write bytes to ``path``, whole or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_whole(path, write)


def write_text_whole(path: str | Path, text: str) -> None:
    """Write UTF-8 text to ``path``, whole or not at all."""
    write_bytes_whole(path, text.encode())
