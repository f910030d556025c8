"""Synthetic categories that another process draws: the same files, and the same errors."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import load_categories, prepare_categories
from padim_zoo.data.synthetic import ahead, dataset, generate, synthetic

FEW = {"train": 2, "good": 1, "defects_per_kind": 1, "size": 48}


@pytest.fixture(autouse=True)
def nothing_is_drawn_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that other tests had refused may have left something to be drawn in this process."""
    monkeypatch.setattr(ahead, "_drawing", {})


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


@pytest.mark.parametrize(("name", "value"), [("executable", None), ("frozen", True)])
def test_within_another_program_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(sys, name, value, raising=False)
    ahead.draw_ahead(tmp_path, ["wood"], FEW)
    assert not ahead._drawing


def test_a_process_that_fails_leaves_the_error_to_this_one(tmp_path: Path) -> None:
    root = generate(tmp_path, categories=["wood"], **FEW)
    ahead.draw_ahead(root, ["gear"], {**FEW, "seed": 1})
    with pytest.raises(InputError, match="choose another folder"):
        generate(root, categories=["gear"], **{**FEW, "seed": 1})
    generate(root, categories=["gear"], **FEW)
    assert not ahead._drawing


def test_threads_that_wait_for_one_process_do_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_write", lambda *_: pytest.fail("this process draws"))
    monkeypatch.setattr(ahead, "usable_processors", lambda: 1)
    more = {**FEW, "train": 20}
    ahead.draw_ahead(tmp_path, ["cable", "wood"], more)
    with ThreadPoolExecutor(2) as pool:
        last = pool.submit(ahead.wait_for, tmp_path / "wood")
        generate(tmp_path, categories=["cable"], **more)
        last.result()
    generate(tmp_path, categories=["wood"], **more)
    assert not ahead._drawing


def test_another_process_imports_what_this_one_does(tmp_path: Path) -> None:
    """And not what lies beside the package under the name of a module of Python."""
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    (tmp_path / "padim_zoo").symlink_to(Path(ahead.__file__).parents[2], target_is_directory=True)
    program = f"""
import sys
from pathlib import Path
sys.path = [folder for folder in sys.path if folder and not Path(folder, "padim_zoo").is_dir()] + [{str(tmp_path)!r}]
from padim_zoo.data.synthetic import ahead, dataset, generate
assert ahead.__file__.startswith({str(tmp_path)!r})
dataset._write = None  # this process does not draw
root, few = Path({str(tmp_path / "data")!r}), {FEW!r}
ahead.draw_ahead(root, ["wood"], few)
generate(root, categories=["wood"], **few)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("sigint", ["SIG_DFL", "SIG_IGN"])  # as of a shell's background jobs
def test_a_process_that_ends_leaves_no_other_that_draws(tmp_path: Path, sigint: str) -> None:
    program = f"""
import signal, time
signal.signal(signal.SIGINT, signal.{sigint})
from pathlib import Path
from padim_zoo.data.synthetic import ahead
root = Path({str(tmp_path)!r})
ahead.draw_ahead(root, ["gear"], {{"size": 512}})
while not list(root.glob(".gear.*")):
    time.sleep(.01)
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic.json"]
    assert not ended.stderr
