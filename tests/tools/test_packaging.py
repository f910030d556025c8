"""The wheel holds all that the package reads, and works away from the sources; the README renders elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, with the setuptools that is here."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT / "padim_zoo", folder / "padim_zoo", ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-c", BUILD, "dist"], cwd=folder, check=True, capture_output=True)
    [path] = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def setup_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_of_padim_zoo", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "padim_zoo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [archive.read(name).decode() for name in names if name.endswith("/METADATA")]
    assert sources <= names
    assert not [name for name in names if not name.startswith("padim_zoo")]
    assert "Keywords: " in metadata
    assert "Classifier: Typing :: Typed" in metadata


def test_the_wheel_works_away_from_the_sources(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def run(*arguments: str) -> str:
        code = "import padim_zoo, sys; from padim_zoo.cli.main import main; print(padim_zoo.__file__); main()"
        command = [sys.executable, "-c", code, *arguments]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert str(tmp_path / "site") in result.stdout
        return result.stdout

    assert "builtin" in run("list", "backbones")
    run("data", "synthetic", "images", "--categories", "gear", "--size", "64", "--train", "6", "--good", "2")
    run("fit", "images/gear/train/good", "-o", "model.safetensors", "--resize", "none", "--crop", "none")
    assert "6 normal images" in run("show", "model.safetensors", "--verify")
    assert "good" in run("predict", "model.safetensors", "images/gear/test")


def test_the_readme_has_no_link_into_nothing(setup_file: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    plain = setup_file.readme_for(text, "")
    assert "](docs" not in plain
    assert "*a leaderboard of padim" in plain
    linked = setup_file.readme_for(text, "https://forge.example/padim-zoo")
    assert "](https://forge.example/padim-zoo/raw/main/docs/images/panels.jpg)" in linked
    assert "](https://forge.example/padim-zoo/blob/main/docs/tutorial.md)" in linked
    assert not re.search(r"\]\((?!https?:|#)", linked)


def test_urls_come_from_one_constant(setup_file: ModuleType) -> None:
    assert setup_file.project_urls("") == {}
    assert setup_file.project_urls("https://forge.example/p")["Issues"] == "https://forge.example/p/issues"


def test_the_release_checks_before_it_publishes() -> None:
    jobs = yaml.safe_load((ROOT / "docs" / "workflows" / "release.yml").read_text(encoding="utf-8"))["jobs"]
    script = "\n".join(step.get("run", "") for step in jobs["build"]["steps"])
    assert "twine check --strict" in script
    assert jobs["publish"]["needs"] == "build"
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
