"""Files are whole or not there, and have the permissions of any other file of the process."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from padim_zoo.core import atomic_write
from padim_zoo.core.atomic_write import check_writable, is_abandoned, write_text_whole, write_whole
from padim_zoo.core.errors import InputError, WriteError
from padim_zoo.core.signals import ending_signals, exit_code_of_signal


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
    temporary = temporaries[0].parent
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are those of POSIX")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(WriteError, match="cannot write"):  # nobody reads
        write_text_whole(pipe, "text")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text_whole(pipe, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "file.txt")
    for text in ("new", "newer"):
        write_text_whole(link, text)
        assert link.is_symlink()
        assert (tmp_path / "elsewhere" / "file.txt").read_text() == text
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    name = f".model.{socket.gethostname()}.{dead.pid}.{16 * 'a'}.tmp"
    (tmp_path / name).mkdir()
    (tmp_path / name / "half").touch()
    alive = tmp_path / name.replace(str(dead.pid), str(os.getpid()))
    alive.touch()
    write_text_whole(tmp_path / "other", "text")
    assert sorted(tmp_path.iterdir()) == sorted([alive, tmp_path / "other"])


def write_by_folder(path: Path, text: str) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text(text)

    write_whole(path, write)


STEPS = [*product([write_text_whole, write_by_folder], ["open", "fsync", "replace"]), (write_by_folder, "chmod")]


@pytest.mark.parametrize(("write", "call"), STEPS)
@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 3), (errno.EIO, 3), (errno.EACCES, 3), (errno.ENOTDIR, 2)])
def test_every_step_may_fail(
    write: Callable[[Path, str], None],
    call: str,
    number: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    write_text_whole(path, "old")

    real = getattr(os, call)

    def fail(*arguments: object, **options: object) -> object:
        if call == "open" and not int(str(arguments[1])) & os.O_CREAT:  # a folder that is read to be removed
            return real(*arguments, **options)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(atomic_write.os, call, fail)
        with pytest.raises(WriteError, match=re.escape(os.strerror(number))) as caught:
            write(path, "new")
    assert caught.value.exit_code == code
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_library_leaves_of_its_own_is_removed(tmp_path: Path) -> None:
    def leave(temporary: Path) -> None:
        temporary.with_name(".tmpA1b2C3").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", leave)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("write", "call"), [*STEPS, (write_by_folder, "mkdir")])
def test_a_signal_at_any_step_leaves_a_whole_file_and_nothing_else(
    write: Callable[[Path, str], None], call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_text_whole(path, "old")
    real = getattr(os, call)

    sent = []

    def at_signal(*arguments: object, **options: object) -> object:
        done = real(*arguments, **options)
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(os, call, at_signal)
        with pytest.raises(KeyboardInterrupt) as caught, ending_signals():
            write(path, "new")
    assert exit_code_of_signal(caught.value) == 128 + number
    assert path.read_text() == ("new" if call == "replace" else "old")
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_under_a_library_is_told(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        """As safetensors raises it."""

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(WriteError, match=r"cannot write .*: No space left on device"):
        write_whole(tmp_path / "file", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(atomic_write.os, "open", fail)
    with pytest.raises(WriteError, match="Read-only file system"):
        check_writable(tmp_path / "new")
