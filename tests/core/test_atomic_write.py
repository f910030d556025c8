"""Files are whole or not there, and have the permissions of any other file of the process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from padim_zoo.core.atomic_write import is_abandoned, write_text_whole, write_whole
from padim_zoo.core.errors import InputError


def test_the_new_file_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "below" / "file.txt"
    write_text_whole(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, fail)
    assert path.read_text() == "old"
    write_text_whole(path, "new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_temporary_file_says_whether_its_writer_is_gone(tmp_path: Path) -> None:
    temporaries: list[Path] = []

    def note(temporary: Path) -> None:
        temporaries.append(temporary)

    write_whole(tmp_path / ("long" * 60), note)
    [temporary] = temporaries
    assert not is_abandoned(temporary)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    of_dead = temporary.name.replace(f".{os.getpid()}.", f".{dead.pid}.")
    assert is_abandoned(tmp_path / of_dead)
    assert not is_abandoned(tmp_path / of_dead.replace(socket.gethostname(), "elsewhere"))
    assert not is_abandoned(tmp_path / "notes.tmp")


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask_which_is_never_touched(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(umask)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")
            write_text_whole(tmp_path / "file.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_what_a_library_puts_in_place_of_the_file_has_these_permissions_too(tmp_path: Path) -> None:
    def replace(temporary: Path) -> None:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "model", replace)
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_cannot_be_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_text_whole(tmp_path / "file" / "below.txt", "text")
