"""The cache folder is the one that is named, or the system's for this package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from padim_zoo.core.cache_folder import cache_folder


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
