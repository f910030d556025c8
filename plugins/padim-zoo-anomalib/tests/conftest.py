"""Images to work on, a cache of this session's own, and a network's weights as a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from padim_zoo.data.synthetic import generate


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADIM_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TRUST_REMOTE_CODE", "1")  # anomalib's switch for the exports that the tests have just written
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of MVTec AD with the category gear, 64 × 64 pixels."""
    root = tmp_path_factory.mktemp("images")
    generate(root, categories=["gear"], train=10, good=3, defects_per_kind=1, size=64)
    return root


@pytest.fixture(scope="session")
def good(images: Path) -> list[Path]:
    return sorted((images / "gear" / "train" / "good").iterdir())


@pytest.fixture(scope="session")
def test_files(images: Path) -> list[Path]:
    return sorted((images / "gear" / "test").glob("*/*.png"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: anomalib writes results where it runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
