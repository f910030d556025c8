"""Commands give a sign of life: bars on a terminal, JSON lines elsewhere, nothing where they are asked to be quiet."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from padim_zoo.bench.settings import SETTINGS
from padim_zoo.cli import stages
from padim_zoo.cli.main import main
from padim_zoo.core import progress
from padim_zoo.core.progress import Stage, open_stages, stage
from padim_zoo.data.synthetic import generate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("progress")
    generate(root / "data", categories=["gear"], train=6, good=2, defects_per_kind=1, size=64)
    options = ["--resize", "none", "--crop", "none", "--n-components", "5", "--no-cache", "--resumable"]
    command = ["fit", str(root / "data" / "gear" / "train"), *options, "-o", str(root / "m.st")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages last long beside the time between two lines: after each image another one is told, if any are."""
    monkeypatch.setattr(stages, "JSON_SECONDS", 0.01)
    advance, to_dict, told = Stage.advance, Stage.to_dict, threading.Event()

    def tell(self: Stage, now: float) -> dict[str, Any]:
        told.set()
        return to_dict(self, now)

    def slowly(self: Stage, count: int = 1) -> None:
        advance(self, count)
        told.clear()
        time.sleep(0.05)
        if progress._listener is not None and open_stages():
            told.wait(1)

    monkeypatch.setattr(Stage, "to_dict", tell)
    monkeypatch.setattr(Stage, "advance", slowly)


def commands(folder: Path) -> dict[str, list[str]]:
    model, images, out = str(folder / "m.st"), str(folder / "data" / "gear"), str(folder / "out")
    fit = ["--resize", "none", "--crop", "none", "--n-components", "5", "--no-cache"]
    return {
        "fit": ["fit", f"{images}/train/good", *fit, "-o", f"{out}.st"],
        "update": ["update", model, f"{images}/test/good", "-o", f"{out}.st"],
        "finetune": ["finetune", f"{images}/train/good", "--crop", "none", "-o", f"{out}.safetensors", "--overwrite"],
        "evaluate": ["evaluate", model, "--data-root", images, "--no-cache"],
        "predict": ["predict", model, f"{images}/test", "--no-cache"],
        "export": ["export", model, "--format", "torch", "-o", f"{out}.pt2"],
        "data check": ["data", "check", images],
        "data synthetic": ["data", "synthetic", out, "--categories", "gear", "--size", "64", "--train", "4"],
    }


@pytest.mark.parametrize("name", commands(Path()))
def test_every_long_command_tells_how_far_it_is(folder: Path, slow: None, name: str) -> None:
    result = CliRunner().invoke(main, commands(folder)[name])
    assert result.exit_code in (0, 2 if name == "finetune" else 0), result.output
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert lines, result.output
    assert {"doing", "done", "of", "unit", "per_second", "seconds", "seconds_left"} <= lines[0].keys()
    assert any(line["of"] and 0 < line["done"] <= line["of"] for line in lines)
    assert not any(line.startswith('{"doing"') for line in result.stdout.splitlines())


def test_quiet_tells_nothing(folder: Path, slow: None) -> None:
    result = CliRunner().invoke(main, [*commands(folder)["evaluate"], "--quiet"])
    assert result.exit_code == 0, result.output
    assert "doing" not in result.stderr
    assert "image AUROC" in result.stdout


def test_a_line_that_is_due_waits_for_the_next_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[int] = []
    told = threading.Event()

    def look() -> list[Stage]:
        found = open_stages()
        looks.append(len(found))
        return found

    def write(*words: Any, **options: Any) -> None:
        click.echo(*words, **options)
        told.set()

    monkeypatch.setattr(stages, "JSON_SECONDS", 0.2)
    monkeypatch.setattr(stages, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(stages, "open_stages", look)
    monkeypatch.setattr(stages, "click", SimpleNamespace(echo=write))
    with stages.json_stages():
        assert progress._listener is not None
        progress._listener.began()  # of a stage that has ended again
        until = time.monotonic() + 60
        while len(looks) < 5:  # a line is due, and no stage is open
            assert time.monotonic() < until
            time.sleep(0.01)
        with stage("two", 1):
            assert told.wait(60)
    assert not any(looks[:5])
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["doing"] for line in lines} == {"two"}
    assert len(lines) == sum(map(bool, looks))


@pytest.mark.parametrize("command", SETTINGS["quiet"].commands)
def test_quiet_is_an_option(command: str) -> None:
    help_text = CliRunner().invoke(main, [*command.split(), "--help"]).output
    assert "--quiet" in help_text
    assert "no-quiet" not in help_text


def test_a_bar_in_words() -> None:
    stage = Stage("reading images", 40, began=100.0)
    stage.done, stage.informed = 10, 105.0
    console = Console(width=100, record=True)
    console.print(stages.draw_stage(stage, 106.0))
    line = "reading images ━━━━━━·················· 10 of 40 images · 2/s · 6 s · about 14 s left"
    assert console.export_text().strip() == line
    assert "12 images" in str(stages.draw_stage(Stage("x", None, done=12), 0.0))
