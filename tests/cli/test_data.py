from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from padim_zoo.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


@pytest.fixture
def gear(tmp_path: Path) -> Path:
    result = run("synthetic", tmp_path / "s", "--categories", "gear", "--size", 32, "--train", 10, "--good", 2)
    assert result.exit_code == 0, result.output
    return tmp_path / "s" / "gear"


def test_synthetic_is_laid_out_as_mvtec(gear: Path) -> None:
    assert len(list((gear / "train" / "good").iterdir())) == 10
    assert len(list((gear / "test" / "good").iterdir())) == 2
    assert {path.name for path in (gear / "ground_truth").iterdir()} == {
        path.name for path in (gear / "test").iterdir()
    } - {"good"}


def test_synthetic_refuses_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    result = run("synthetic", tmp_path)
    assert result.exit_code == 2
    assert "is not empty" in result.output


def test_check_counts(gear: Path) -> None:
    result = run("check", gear, "--json")
    assert result.exit_code == 0, result.output
    [report] = json.loads(result.output)
    assert report["counts"]["train"] == {"good": 10}
    assert report["sizes"] == {"32x32": 10 + 2 + 15}
    table = run("check", gear).output
    assert "gear" in table
    assert "32x32" in table


def test_check_names_what_is_wrong(gear: Path) -> None:
    for number in range(7):
        (gear / "train" / "good" / f"{number:03d}.png").write_bytes(b"no image")
    result = run("check", gear)
    assert result.exit_code == 1
    assert "gear: error: 7 images cannot be read" in result.output
    assert "000.png" in result.output
    assert "006.png" not in result.output
    assert "and 2 more (--all)" in result.output
    assert "006.png" in run("check", gear, "--all").output


def test_warnings_alone_are_no_failure(gear: Path) -> None:
    (gear / "train" / "good" / "000.png").unlink()
    result = run("check", gear)
    assert result.exit_code == 0
    assert "gear: warning: only 9 normal images" in result.output


def test_check_of_something_else_is_a_mistake(tmp_path: Path) -> None:
    result = run("check", tmp_path)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
