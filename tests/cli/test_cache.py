"""``padim-zoo cache``: what is kept, and that only what padim-zoo put there is removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from padim_zoo.cli.main import main

KEY = "0123456789abcdef" * 4


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["cache", *arguments])


def put(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PADIM_ZOO_CACHE_LIMIT", "5MB")
    return tmp_path / "cache"


@pytest.fixture
def ours(folder: Path) -> list[Path]:
    """Three files of features, one of an image, and a synthetic data set of two files."""
    features, synthetic = folder / "features", folder / "synthetic" / "v2-size256-seed0"
    return [
        put(features / f"{KEY}.safetensors", 1_500_000),
        put(features / f"{KEY[::-1]}.safetensors", 500_000),
        put(features / f".{KEY}.safetensors.12ab.tmp", 100),
        put(folder / "images" / f"{KEY}.safetensors", 200_000),
        put(synthetic / "manifest.json", 10),
        put(synthetic / "gear" / "train" / "good" / "000.png", 290),
    ]


@pytest.fixture
def foreign(folder: Path, tmp_path: Path) -> list[Path]:
    """Files of others, beside and between ours."""
    linked = put(tmp_path / "elsewhere" / "precious.png", 5).parent
    (folder / "synthetic").mkdir(parents=True, exist_ok=True)
    (folder / "synthetic" / "v9-size9-seed9").symlink_to(linked, target_is_directory=True)
    return [
        linked / "precious.png",
        put(folder / "notes.txt", 5),
        put(folder / "features" / "notes.txt", 5),
        put(folder / "features" / "resnet18.safetensors", 5),
        put(folder / "images" / "photo.png", 5),
        put(folder / "features" / "deeper" / f"{KEY}.safetensors", 5),
        put(folder / "synthetic" / "my-own" / "000.png", 5),
    ]


def test_info_of_an_empty_cache(folder):
    result = run("info", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "folder": str(folder),
        "kinds": {
            "features": {"entries": 0, "bytes": 0, "limit": 5_000_000},
            "fingerprints": {"entries": 0, "bytes": 0, "limit": 5_000_000},
            "images": {"entries": 0, "bytes": 0, "limit": 5_000_000},
            "networks": {"entries": 0, "bytes": 0, "limit": 5_000_000},
            "synthetic": {"entries": 0, "bytes": 0, "limit": None},
        },
    }
    assert not folder.exists()


def test_info_counts_what_is_ours(ours, foreign, folder):
    kinds = json.loads(run("info", "--json").stdout)["kinds"]
    assert kinds["features"] == {"entries": 3, "bytes": 2_000_100, "limit": 5_000_000}
    assert kinds["images"] == {"entries": 1, "bytes": 200_000, "limit": 5_000_000}
    assert kinds["synthetic"] == {"entries": 1, "bytes": 300, "limit": None}
    shown = run("info").stdout
    assert str(folder) in shown
    assert "2.000" in shown
    assert "5 MB, for features, fingerprints, images and networks together" in shown


@pytest.mark.parametrize("everything", [False, True])
def test_clear_removes_ours_alone(ours, foreign, everything):
    result = run("clear", *["--all"] * everything)
    assert result.exit_code == 0
    assert "features: removed 3 entries, 2.0 MB" in result.stdout
    assert "images: removed 1 entries, 0.2 MB" in result.stdout
    assert ("synthetic: removed 1 entries" in result.stdout) == everything
    assert [path.exists() for path in ours] == [False] * 4 + [not everything] * 2
    assert all(path.exists() for path in foreign)
    assert json.loads(run("clear", "--json").stdout) == {
        kind: {"entries": 0, "bytes": 0} for kind in ("features", "fingerprints", "images", "networks")
    }


def test_what_cannot_be_removed_is_told(ours, monkeypatch):
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    result = run("clear")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: cannot remove ")
    assert "Permission denied" in result.stderr


def test_a_limit_that_is_no_size(monkeypatch):
    monkeypatch.setenv("PADIM_ZOO_CACHE_LIMIT", "plenty")
    result = run("info")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "PADIM_ZOO_CACHE_LIMIT is 'plenty'" in result.stderr
