"""Synthetic categories that another process draws: the same files, and the same errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import load_categories, prepare_categories
from padim_zoo.data.synthetic import ahead, dataset, generate, synthetic

FEW = {"train": 2, "good": 1, "defects_per_kind": 1, "size": 48}


def test_another_process_draws_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generate(tmp_path / "expected", categories=["cable", "wood"], **FEW)
    generate(tmp_path / "ahead", categories=["cable"], **FEW)
    monkeypatch.setattr(dataset, "_write", lambda *_: pytest.fail("this process draws"))
    drawn = synthetic(tmp_path / "ahead")
    prepare_categories(drawn, ["cable", "wood"])
    load_categories(drawn, ["wood", "cable"])
    for path in expected.rglob("*.*"):
        assert (tmp_path / "ahead" / path.relative_to(expected)).read_bytes() == path.read_bytes()


def test_what_is_there_takes_no_process(tmp_path: Path) -> None:
    root = generate(tmp_path, categories=["wood"], **FEW)
    ahead.draw_ahead(root, ["wood"], FEW)
    assert not ahead._drawing


def test_a_process_that_fails_leaves_the_error_to_this_one(tmp_path: Path) -> None:
    root = generate(tmp_path, categories=["wood"], **FEW)
    ahead.draw_ahead(root, ["gear"], {**FEW, "seed": 1})
    with pytest.raises(InputError, match="choose another folder"):
        generate(root, categories=["gear"], **{**FEW, "seed": 1})
    generate(root, categories=["gear"], **FEW)
    assert not ahead._drawing


@pytest.mark.parametrize("handler", ["default_int_handler", "SIG_IGN"])
def test_a_process_that_ends_leaves_no_other_that_draws(tmp_path: Path, handler: str) -> None:
    """Also one that a shell runs in the background, where an interrupt is ignored."""
    program = f"""
import signal
import time
from pathlib import Path
from padim_zoo.data.synthetic import ahead
signal.signal(signal.SIGINT, signal.{handler})
root = Path({str(tmp_path)!r})
ahead.draw_ahead(root, ["gear"], {{"size": 512}})
while not list(root.glob(".gear.*")):
    time.sleep(.01)
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic.json"]
    assert not ended.stderr
