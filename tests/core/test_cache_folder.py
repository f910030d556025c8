"""The cache folder is the one that is named, or the system's for this package; its size is told while others write."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from padim_zoo.core.cache_folder import cache_folder, usage


def test_the_environment_names_it_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "system"))
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("PADIM_ZOO_CACHE", "~/own")
    assert cache_folder() == Path.home() / "own"


def test_the_system_names_it_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PADIM_ZOO_CACHE", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder().is_relative_to(Path.home())
    assert "padim-zoo" in cache_folder().parts
    if sys.platform == "linux":
        assert cache_folder() == Path.home() / ".cache" / "padim-zoo"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "padim-zoo"


def test_a_draft_that_is_renamed_meanwhile_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As of a process that draws synthetic data while another one asks how much there is."""
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path))
    root = tmp_path / "synthetic" / "v1-size64-seed0"
    draft = root / ".gear.host.1.0123456789abcdef.tmp"
    (draft / "train").mkdir(parents=True)
    (draft / "train" / "000.png").write_bytes(bytes(1000))
    (root / "synthetic.json").write_bytes(bytes(10))
    scandir = os.scandir

    def rename_and_list(path: str) -> object:
        if Path(path) == draft:
            draft.rename(root / "gear")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", rename_and_list)
    assert usage("synthetic") == (1, 10)
    assert usage("synthetic") == (1, 1010)
