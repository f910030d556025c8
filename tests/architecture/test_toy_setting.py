"""A setting is added by one row: toy_setting.py adds it, in another process, before anything else is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    plugin, folder = HERE.parent / "bench" / "toy_zoo.py", tmp_path_factory.mktemp("toy")
    command = [sys.executable, str(HERE / "toy_setting.py"), str(plugin), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def test_commands_that_take_it_have_an_option(toy: dict[str, Any]) -> None:
    for command in ("bench", "fit"):
        [line] = [line for line in toy["help"][command].splitlines() if "--sharpness" in line]
        assert line.split() == ["--sharpness", "X", "How", "sharp", "a", "toy", "is.", "[default:", "1.5]"]
    assert "--sharpness" not in toy["help"]["predict"]


def test_yaml_gives_it_to_the_suite(toy: dict[str, Any]) -> None:
    assert (toy["suite"], toy["default"]) == (2.0, 1.5)


def test_it_is_part_of_a_run_and_of_its_id(toy: dict[str, Any]) -> None:
    assert toy["config"] == [2.0, 3.0]
    assert len(set(toy["ids"])) == 2


def test_the_leaderboard_has_its_column(toy: dict[str, Any]) -> None:
    assert toy["column"] == ["2", "3"]


def test_the_command_of_the_report_gives_it(toy: dict[str, Any]) -> None:
    assert toy["planned"] == toy["ids"]


def test_check_tells_rows_apart_by_it(toy: dict[str, Any]) -> None:
    assert [name.partition("sharpness ")[2] for name in toy["pairs"]] == ["2.0", "3.0"]
    [new] = toy["apart"]
    assert new.endswith("sharpness 2.0")
