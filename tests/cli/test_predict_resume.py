"""Scores are written as they come: what a kill leaves, and how --resume goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from padim_zoo.cli.main import main
from padim_zoo.core.errors import InputError
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.synthetic import generate

COUNT = 12


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resume")
    generate(root / "data", categories=["gear"], train=8, good=0, defects_per_kind=0, size=64)
    for seed in (0, 1):
        options = ["--resize", "none", "--crop", "none", "--n-components", 5, "--no-cache", "--backbone", "builtin"]
        options += ["--reduction", "random", "--seed", seed, "-o", root / f"{seed}.safetensors"]
        result = run("fit", root / "data" / "gear" / "train" / "good", *options)
        assert result.exit_code == 0, result.output
    rng = np.random.default_rng(0)
    (root / "new images").mkdir()
    names = [f"={i}" if i == 0 else f"ü {i:02}" for i in range(COUNT)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(root / "new images" / f"{name}.PNG")
    return root


def predict(folder: Path, output: Path, *more: object, model: int = 0) -> list[object]:
    return ["predict", folder / f"{model}.safetensors", folder / "new images", "-o", output, "--batch-size", 1, *more]


SLOW = """
import sys, time
from padim_zoo.report.score_file import ScoreFile
add = ScoreFile.add
def slowly(self, row):
    add(self, row)
    if len(self) == {count}:
        time.sleep(1000)
ScoreFile.add = slowly
from padim_zoo.cli.main import main
main()
"""


def killed_after(count: int, part: Path, arguments: list[object], how: signal.Signals) -> str:
    """Kill a prediction after so many rows; what it said."""
    code = SLOW.format(count=count)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 600
        while not part.exists() or part.read_text().count("\n") < count + 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        os.kill(process.pid, how)
        return process.communicate()[1]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_kill_loses_one_image_and_resume_does_the_rest(folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "out" / "scores.csv.part"
    killed_after(COUNT - 1, part, predict(folder, tmp_path / "out"), signal.SIGKILL)
    first, *rows = part.read_text().splitlines()
    assert set(json.loads(first.removeprefix("# "))) == {"model", "options"}
    assert len(list(csv.DictReader(rows))) == COUNT - 1
    assert not (tmp_path / "out" / "scores.csv").exists()

    refused = run(*predict(folder, tmp_path / "out"))
    assert refused.exit_code == 2
    assert f"holds {COUNT - 1} rows of a call that was cut short: go on with --resume" in refused.output
    part.write_text(part.read_text()[:-5])  # the last line was cut short
    done = run(*predict(folder, tmp_path / "out", "--resume"))
    assert done.exit_code == 0, done.output
    assert f"scores of {COUNT} images, {COUNT - 2} of them from before" in done.output
    assert not part.exists()
    whole = run(*predict(folder, tmp_path / "again"))
    assert whole.exit_code == 0, whole.output
    scores = (tmp_path / "again" / "scores.csv").read_text()
    assert (tmp_path / "out" / "scores.csv").read_text() == scores
    assert scores.startswith("path,score,")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_says_how_to_go_on(folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "scores.csv.part"
    said = killed_after(3, part, predict(folder, tmp_path), signal.SIGINT)
    assert f"3 of {COUNT} images are in {part}: --resume goes on" in said


def test_another_model_or_other_options_are_refused(folder: Path, tmp_path: Path) -> None:
    from padim_zoo.report.score_file import Row, ScoreFile, digest_of_model

    options = {"threshold": None, "roi": None, "maps": None, "pictures": [], "alpha": 0.5, "colormap": "inferno"}
    for as_json in (False, True):
        target = tmp_path / f"scores.{'json' if as_json else 'csv'}"
        file = ScoreFile(target, as_json=as_json)
        about = {"model": digest_of_model(folder / "0.safetensors"), "options": {**options, "threshold": 3.5}}
        file.begin(about, resume=False)
        file.add(Row("=a.png", 0.5, 0.25, True))
        file.add(Row("b.png", error="cannot be read"))
        assert file.keep_or_remove()
        more = ("--scores", target, "--resume")
        other = run(*predict(folder, tmp_path, *more, model=1))
        assert (other.exit_code, len(other.output.splitlines())) == (2, 1)
        assert "is of another model: give the same again, or delete it" in other.output
        other = run(*predict(folder, tmp_path, *more))
        assert other.exit_code == 2
        assert "other options, --threshold 3.5 (now None)" in other.output
        again = ScoreFile(target, as_json=as_json)
        again.begin(about, resume=True)
        assert Path("=a.png") in again
        assert Path("b.png") not in again  # it may be readable now
        assert len(again) == 1
        again.add(Row("b.png", 0.125, 0.25, False))
        rows = again.finish([Path("b.png"), Path("=a.png")])
        assert [row.score for row in rows] == [0.125, 0.5]
        assert target.read_text().count("=a.png") == 1
        assert not again.part.exists()


def test_a_region_of_interest_is_known_by_its_pixels(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from padim_zoo.report.score_file import Row, ScoreFile

    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[10:50, 10:50] = 255
    mask, moved = tmp_path / "mask.png", tmp_path / "moved.png"
    Image.fromarray(pixels).save(mask)
    Image.fromarray(pixels).save(moved)
    add = ScoreFile.add

    def cut_short(file: ScoreFile, row: Row) -> None:
        if len(file) == 3:
            raise KeyboardInterrupt
        add(file, row)

    opened: list[Path] = []

    def open_once(region: RegionOfInterest, path: Path) -> None:
        opened.append(path)
        open_region(region, path)

    open_region = RegionOfInterest._open
    monkeypatch.setattr(RegionOfInterest, "_open", open_once)
    monkeypatch.setattr(ScoreFile, "add", cut_short)
    run(*predict(folder, tmp_path, "--roi", mask))
    monkeypatch.undo()
    assert opened == [mask]
    assert (tmp_path / "scores.csv.part").exists()
    Image.fromarray(255 - pixels).save(mask)
    other = run(*predict(folder, tmp_path, "--roi", mask, "--resume"))
    assert other.exit_code == 2
    assert "other options, --roi with pixels" in other.output
    done = run(*predict(folder, tmp_path, "--roi", moved, "--resume"))
    assert done.exit_code == 0, done.output
    assert f"scores of {COUNT} images, 3 of them from before" in done.output


def test_what_cannot_be_resumed(folder: Path, tmp_path: Path) -> None:
    result = run("predict", folder / "0.safetensors", folder / "new images", "--resume")
    assert result.exit_code == 2
    assert "--resume continues a file, and - is not one" in result.output
    (tmp_path / "scores.csv.part").write_text("nonsense\n\n\n")
    result = run(*predict(folder, tmp_path, "--resume"))
    assert result.exit_code == 2
    assert "is damaged: delete it, and begin anew" in result.output


def test_scores_that_another_process_is_writing_are_left_to_it(folder: Path, tmp_path: Path) -> None:
    from padim_zoo.report.score_file import Row, ScoreFile

    code = "import sys; from padim_zoo.report.score_file import *; f = ScoreFile(Path(sys.argv[1]), as_json=False); "
    code += (
        "f.begin({}, resume=False); f.add(Row('a.png', 1.0)); print(1, flush=True); input(); f.finish([Path('a.png')])"
    )
    target = tmp_path / "scores.csv"
    with subprocess.Popen([sys.executable, "-c", code, str(target)], stdin=-1, stdout=-1) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for resume in (False, True):
            with pytest.raises(InputError, match="is being written by another process: wait for it"):
                ScoreFile(target, as_json=False).begin({}, resume=resume)
        other.communicate(b"\n")
    assert target.read_text().count("a.png") == 1
    again = ScoreFile(target, as_json=False)
    again.begin({}, resume=False)
    again.add(Row("b.png", 2.0))
    again.finish([Path("b.png")])
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_a_failure_before_the_first_row_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    from padim_zoo.report.score_file import ScoreFile

    file = ScoreFile(tmp_path / "scores.csv", as_json=False)
    file.begin({"model": "m", "options": {}}, resume=False)
    assert not file.keep_or_remove()
    assert list(tmp_path.iterdir()) == []


def test_images_that_fail_alike_are_one_line(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.new("RGB", (48, 80)).save(tmp_path / f"{name}.png")
    result = run("predict", folder / "0.safetensors", tmp_path, "--scores", tmp_path / "scores.csv")
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    first = f"{tmp_path / 'a.png'}, an image of 80x48 pixels after the transform cannot be scored by a detector fitted"
    assert line.startswith(f"Error: {first} on 64x64 pixels: resize the image to 64x64, or fit a model with --resize")
    assert line.endswith("(and 2 more images alike)")
    with (tmp_path / "scores.csv").open(encoding="utf-8") as file:
        assert "c.png, an image of" in list(csv.DictReader(file))[2]["error"]
