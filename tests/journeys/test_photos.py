"""The first journey: own photos, from ``data check`` to a threshold that is moved, exported and predicted with."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from padim_zoo.cli.main import main
from padim_zoo.data.synthetic import generate

SMALL = ("--resize", "64", "--n-components", "16", "--estimator", "ledoit-wolf")


def run(*arguments: object) -> Result:
    """A command whose mistakes, if any, are told in one line."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos as a user has them: German names, blanks, umlauts, upper-case suffixes, one broken file."""
    generate(tmp_path / "drawn", categories=["gear"], train=20, good=6, defects_per_kind=2, size=64)
    folder, drawn = tmp_path / "Fotos Müller", tmp_path / "drawn" / "gear"
    for name in ("i.O.", "n.i.O."):
        (folder / name).mkdir(parents=True)
    for path in sorted(drawn.glob("*/good/*.png")):
        shutil.copy(path, folder / "i.O." / f"Teil ü {path.parents[1].name} {path.stem}.PNG")
    for path in sorted(drawn.glob("test/*/*.png")):
        if path.parent.name != "good":
            shutil.copy(path, folder / "n.i.O." / f"{path.parent.name} {path.stem}.PNG")
    (folder / "i.O." / "kaputt.JPG").touch()
    monkeypatch.chdir(tmp_path)
    return folder.relative_to(tmp_path)


def test_from_photos_to_an_exported_threshold(photos: Path) -> None:
    checked = run("data", "check", photos)
    assert checked.exit_code == 1
    assert "kaputt.JPG is an empty file" in checked.output
    # The command to run next is taken as it is printed.
    advice = checked.stdout.strip().splitlines()[-1]
    assert advice.startswith("next: mend these images, or leave them out: padim-zoo bench ")
    words = shlex.split(advice.partition("padim-zoo ")[2])
    assert "Müller" in succeed(*words, "--resize", "64", "--estimators", "ledoit-wolf", "--quiet", "-o", "runs")
    assert "left out" in succeed("leaderboard", "runs")

    refused = run("fit", "--data-root", photos, *SMALL, "-o", "model.safetensors")
    assert refused.exit_code == 2
    assert "--skip-unreadable" in refused.output
    assert "i.O." in run("fit", photos, *SMALL, "-o", "model.safetensors").output  # the folder to take
    (photos / "i.O." / "kaputt.JPG").unlink()
    assert "next: padim-zoo bench" in succeed("data", "check", photos)
    fitted = succeed("fit", "--data-root", photos, *SMALL, "-o", "model.safetensors")
    assert "threshold" in fitted

    figures = json.loads(run("evaluate", "model.safetensors", "--data-root", photos, "--json").stdout)
    assert figures["learned_images_left_out"] == 0
    assert figures["near_copies_of_learned_images"] == 0
    succeed("calibrate", "model.safetensors", "--fpr", "0.2", "-o", "moved.safetensors")
    moved = json.loads(run("show", "moved.safetensors", "--json").stdout)
    assert moved["false_alarm_rate"] == 0.2
    assert moved["threshold"] < json.loads(run("show", "model.safetensors", "--json").stdout)["threshold"]

    succeed("export", "moved.safetensors", "--format", "torch", "-o", "moved.pt2")
    for model, folder in (("moved.safetensors", "a"), ("moved.pt2", "b")):
        succeed("predict", model, photos / "n.i.O.", "-o", folder, "--pictures", "overlay")
    tables = [Path(folder, "scores.csv").read_text(encoding="utf-8") for folder in "ab"]
    rows = [list(csv.DictReader(table.splitlines())) for table in tables]
    assert len(rows[0]) == len(rows[1]) == len(list((photos / "n.i.O.").iterdir()))
    for mine, exported in zip(*rows, strict=True):
        assert float(mine["threshold"]) == pytest.approx(moved["threshold"], rel=1e-4)
        assert float(exported["score"]) == pytest.approx(float(mine["score"]), rel=1e-3)
        assert exported["anomalous"] == mine["anomalous"]
    assert len(list(Path("b", "overlay").rglob("*.png"))) == len(rows[1])
