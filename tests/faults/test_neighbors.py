"""Processes that change one file at the same time: nothing is lost and nothing is torn."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from padim_zoo.bench.check import baseline as baselines
from padim_zoo.bench.check.history import append_entry, read_history
from padim_zoo.core import atomic_write
from padim_zoo.core.errors import WriteError
from padim_zoo.detectors.loading import load
from tests.cli.test_check import write_benchmarks, write_runs
from tests.command_line import run
from tests.faults.harness import command
from tests.image_files import write_noise

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each process is a fork")


def together(works: Sequence[Callable[[], None]]) -> list[int | None]:
    """Do some work in as many processes, which begin at the same moment; their exit codes."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(works))

    def one(work: Callable[[], None]) -> None:
        barrier.wait()
        work()

    processes = [context.Process(target=one, args=(work,)) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    return [process.exitcode for process in processes]


def test_checks_that_end_at_once_lose_no_line_of_the_history(tmp_path: Path) -> None:
    history = tmp_path / "new" / "history.jsonl"

    def entries(writer: int) -> Callable[[], None]:
        def work() -> None:
            for number in range(10):
                append_entry(history, {"format": 1, "metrics": {}, "costs": {}, "line": [writer, number]})

        return work

    assert together([entries(writer) for writer in range(4)]) == [0] * 4
    lines = [tuple(entry["line"]) for entry in read_history(history)]
    assert sorted(lines) == [(writer, number) for writer in range(4) for number in range(10)]
    assert os.listdir(history.parent) == ["history.jsonl"]


def test_a_history_is_longer_by_a_line_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = tmp_path / "history.jsonl"
    entry = {"format": 1, "metrics": {}, "costs": {}}
    history.write_text(json.dumps(entry))  # without a line break, as editors leave it
    append_entry(history, entry)
    assert len(read_history(history)) == 2

    def fail(path: Path) -> None:
        raise OSError(28, os.strerror(28))

    before = history.read_text()
    monkeypatch.setattr(atomic_write, "flush", fail)
    with pytest.raises(WriteError, match=r"cannot write .*history"):
        append_entry(history, entry)
    assert history.read_text() == before


def test_a_baseline_keeps_the_runs_of_one_update_and_the_benchmarks_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, benchmarks = write_runs(tmp_path / "runs"), write_benchmarks(tmp_path / "benchmarks.json", 0.1)
    baseline = tmp_path / "baseline.json"
    read = baselines.read_baseline

    def slowly(path: Path) -> baselines.Baseline:
        found = read(path)
        time.sleep(0.5)
        return found

    run("check", "--benchmarks", benchmarks, "--update", "--baseline", baseline)
    monkeypatch.setattr(baselines, "read_baseline", slowly)
    parts = [[runs], ["--benchmarks", benchmarks]]
    assert together([command("check", *part, "--update", "--baseline", baseline) for part in parts]) == [0, 0]
    whole = read(baseline)
    assert len(whole.rows) == 2
    assert whole.benchmarks is not None


def test_updates_of_one_model_are_all_in_it_or_refused_in_a_line(tmp_path: Path) -> None:
    parts = [tmp_path / name for name in ("first", "a", "b", "c")]
    write_noise(part / f"{number}.png" for part in parts for number in range(6))
    model = tmp_path / "model.safetensors"
    run("fit", parts[0], "-o", model, "--resize", "32", "--crop", "32")
    program = [sys.executable, "-c", "from padim_zoo.cli.main import main; main()"]
    updates = [
        subprocess.Popen([*program, "update", str(model), str(part), "--in-place"], stderr=subprocess.PIPE, text=True)
        for part in parts[1:]
    ]
    told = [process.communicate(timeout=600)[1] for process in updates]
    refused = [text for process, text in zip(updates, told, strict=True) if process.returncode == 2]
    assert {process.returncode for process in updates} <= {0, 2}, told
    assert all("is being updated by another process: wait" in text for text in refused)
    assert load(model).n_images_ == 6 * (1 + len(updates) - len(refused)) > 6
