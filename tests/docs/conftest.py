from __future__ import annotations

from pathlib import Path

import pytest
from doc_world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The starting points of the pages, each made when a page first asks for it."""
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parents[2]
