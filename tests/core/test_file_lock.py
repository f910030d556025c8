"""A lock on a file ends when it is released, whoever else has the file open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from padim_zoo.core.file_lock import FileLock

pytest.importorskip("fcntl", reason="Windows has no such locks")


@pytest.mark.parametrize("create", [False, True])
def test_a_lock_that_is_released_is_free_though_a_forked_process_has_its_file_open(
    tmp_path: Path, create: bool
) -> None:
    path = tmp_path / "file"
    path.touch()
    one, other = FileLock(path, create=create), FileLock(path, create=create)
    assert one.take()
    assert not other.take()
    assert one._descriptor is not None
    inherited = os.dup(one._descriptor)  # as after a fork, until the new process ends or starts another program
    one.release()
    assert path.exists() != create
    assert other.take()
    other.release()
    os.close(inherited)
