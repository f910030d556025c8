"""A benchmark that is killed at any moment and started again ends where an undisturbed one does."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from padim_zoo.bench.leaderboard import columns, leaderboard
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite

MEASURED = {"fit_seconds", "ms_per_image_b1", "ms_per_image_b32", "peak_memory_mb"}
REPEATABLE = [column.name for column in columns() if column.name not in MEASURED]


def bench(suite: Suite, threads: int = 1, **environment: str) -> None:
    os.environ.update(environment)
    torch.set_num_threads(threads)
    suite.load_plugins()
    store, plan = RunStore(suite.output), make_plan(suite)
    for _ in execute(suite, find_missing(plan, store), store):
        pass


def start(suite: Suite, delay: float = 0.0) -> multiprocessing.Process:
    """Do a suite in another process, in which each fit takes so many seconds longer."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs processes that start quickly, by a fork server")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["padim_zoo.bench.schedule", "padim_zoo.backbones.timm", "timm", "torchvision"])
    # A fork server that earlier tests have started does not know this environment.
    environment = {"TOY_LOG": os.environ["TOY_LOG"], "TOY_DELAY": str(delay)}
    process = context.Process(target=bench, args=(suite,), kwargs=environment)
    process.start()
    return process


@pytest.fixture
def grid(suite: Suite) -> Suite:
    return suite.replace(categories=(), backbones=("toy-*",), estimators=("full", "tied"), folds=2)


def board_of(folder: Path) -> pd.DataFrame:
    contents = RunStore(folder).read_all()
    assert not contents.problems
    return leaderboard(contents.documents)[REPEATABLE]


@pytest.mark.parametrize("delay", [0.0, 0.25])
def test_kills_change_nothing_and_cost_the_run_in_flight(grid, log, tmp_path, delay):
    """At moments that may be any, with too little time for some machines to kill; and with time enough for all."""
    bench(grid.replace(output=tmp_path / "undisturbed"), torch.get_num_threads())
    runs = len(make_plan(grid).runs)
    assert len(log("fit")) == 2 * runs
    kills, finished = 0, False
    moment = random.Random(7)
    while not finished:
        before = len(list(grid.output.glob("*.json"))) if grid.output.exists() else 0
        process = start(grid, delay if kills < 3 else 0.0)
        # Killed a random while after it has recorded its next run, or when it is through.
        while process.is_alive() and kills < 3 and len(list(grid.output.glob("*.json"))) <= before:
            time.sleep(0.005)
        process.join(moment.uniform(0, 0.3) if kills < 3 else None)
        finished = process.exitcode == 0
        if not finished:
            process.kill()
            process.join()
            finished = process.exitcode == 0
            kills += not finished
    assert kills >= (2 if delay else 0)
    pd.testing.assert_frame_equal(board_of(grid.output), board_of(tmp_path / "undisturbed"))
    # Of each run that a kill interrupted, at most two folds were fitted in vain.
    assert len(log("fit")) <= 2 * 2 * runs + 2 * kills
    start(grid).join()
    RunStore(grid.output).clean()
    assert list(grid.output.glob(".*")) == []


def test_two_processes_on_one_store_do_not_disturb_each_other(grid, log, tmp_path):
    bench(grid.replace(output=tmp_path / "alone"), torch.get_num_threads())
    both = [start(grid), start(grid)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    pd.testing.assert_frame_equal(board_of(grid.output), board_of(tmp_path / "alone"))
