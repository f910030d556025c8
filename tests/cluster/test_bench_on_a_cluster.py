"""Runs on real workers are those of one process, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from unittest.mock import Mock

import pandas as pd
import pytest
from distributed import CancelledError, Client

from padim_zoo import registry
from padim_zoo.bench.claims import Claims
from padim_zoo.bench.costs import COSTS
from padim_zoo.bench.environment import describe_environment
from padim_zoo.bench.executors.cluster import Cluster as Connection
from padim_zoo.bench.executors.cluster import connect
from padim_zoo.bench.executors.executor import Recorder
from padim_zoo.bench.leaderboard import columns, leaderboard
from padim_zoo.bench.plan import groups, make_plan
from padim_zoo.bench.schedule import execute, find_missing, make_executor
from padim_zoo.bench.shard import split_groups
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from tests.cluster.conftest import ROOT, TOYS, Cluster, start_cluster, wait_for_workers

REPEATABLE = [column.name for column in columns() if column.name not in COSTS]


def bench(suite: Suite) -> list[str]:
    """Do what is missing; what was said of the cluster."""
    notes: list[str] = []
    store, plan = RunStore(suite.output), make_plan(suite)
    for _ in execute(suite, find_missing(plan, store), store, notes.append):
        pass
    return notes


def board_of(folder: Path) -> pd.DataFrame:
    contents = RunStore(folder).read_all()
    assert not contents.problems
    return leaderboard(contents.documents)[REPEATABLE]


@pytest.fixture
def toy_suite(tmp_path: Path) -> Iterator[Suite]:
    """A suite of toys, whose plugin is loaded here."""
    plugin = registry.load_plugin(TOYS)
    import padim_zoo_plugin_toy_zoo as toys  # type: ignore[import-not-found]

    yield Suite(
        backbones=("toy-linear",),
        estimators=("full", "tied"),
        detectors=("toy",),
        dataset="mvtec",
        data_root=toys.make_images(tmp_path / "images"),
        resize=None,
        crop=None,
        plugin=(TOYS,),
        output=tmp_path / "runs",
    )
    plugin.take_back()


def test_the_leaderboard_is_that_of_one_process(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    suite = Suite(
        data_root=images,
        estimators=("full",),
        ensemble=("builtin:full+builtin:diagonal", "builtin+scattering:ledoit-wolf"),
        rule="max",
        seeds=(0, 1),
        backbones=("builtin",),
        n_components=20,
        folds=2,
        resize="32",
        crop="32",
        output=tmp_path / "alone",
    )
    bench(suite)
    ensembles = [group for group in groups(make_plan(suite)) if group[0].members]
    assert len(ensembles) == 4
    assert len(split_groups(ensembles, workers=8)) == 8
    notes = bench(suite.replace(cluster=f"file:{cluster.file}", output=tmp_path / "cluster"))
    pd.testing.assert_frame_equal(board_of(tmp_path / "cluster"), board_of(tmp_path / "alone"))
    assert not notes
    for run in make_plan(suite):
        one, other = (RunStore(tmp_path / folder).scores(run.id) for folder in ("alone", "cluster"))
        assert {name: array.tobytes() for name, array in one.items()} == {
            name: array.tobytes() for name, array in other.items()
        }


def test_another_copy_of_the_data_is_refused(toy_suite: Suite, tmp_path: Path) -> None:
    import padim_zoo_plugin_toy_zoo as toys

    other = toys.make_images(tmp_path / "other")
    toys.write(other / "beta" / "test" / "good" / "002.png", toys.noise(toys.np.random.default_rng(99)))
    own = start_cluster(tmp_path)
    own.add_worker("--nthreads", "2", PADIM_ZOO_DATA_ROOT=str(other))
    try:
        suite = toy_suite.replace(cluster=f"file:{own.file}")
        wait_for_workers(own, 1)
        [note, *_] = bench(suite)
    finally:
        own.end()
    assert "1 of 1 workers have more than one thread" in note
    documents = [RunStore(suite.output).read(run.id) for run in make_plan(suite)]
    statuses = {document["config"]["category"]: document["status"] for document in documents}
    assert statuses == {"alpha": "done", "beta": "failed"}
    [message] = {document["error"]["message"] for document in documents if document["error"]}
    assert "its copy of the data differs: test/good/002.png has other content" in message


def test_a_run_that_kills_its_workers_fails_alone(toy_suite: Suite, tmp_path: Path) -> None:
    own = start_cluster(tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    own.add_worker(nanny=True)
    suite = toy_suite.replace(
        estimators=("full", "shrinkage(0.5)", "tied"), categories=("alpha",), cluster=f"file:{own.file}"
    )
    try:
        bench(suite)
    finally:
        own.end()
    documents = [RunStore(suite.output).read(run.id) for run in make_plan(suite)]
    assert [document["status"] for document in documents] == ["done", "failed", "done"]
    assert documents[1]["error"]["message"].startswith("1 workers died while they were at this run")


@pytest.mark.parametrize("where", ["between two groups", "on their way"])
def test_no_claim_is_left(where: str, cluster: Cluster, toy_suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the command stops while it claims the second group, or nothing can be sent."""
    suite = toy_suite.replace(cluster=f"file:{cluster.file}")
    store, plan = RunStore(suite.output), make_plan(suite)
    store.folder.mkdir()
    ids = [run.id for run in plan]
    other = Claims(store.folder)
    if where == "between two groups":
        other.take(ids[-1:])
        with make_executor(suite, Recorder(store, describe_environment(1)), str) as executor:
            events = executor.run(groups(plan))
            assert next(events).elsewhere
        del events
    else:
        monkeypatch.setattr("distributed.Client.map", Mock(side_effect=OSError("no way")))
        with pytest.raises(OSError, match="no way"):
            bench(suite)
    other.release()
    other.take(ids)
    assert [run_id for run_id in ids if run_id not in other] == []
    other.release()


def test_a_result_that_was_lost_with_its_worker_is_made_again(tmp_path: Path) -> None:
    own = start_cluster(tmp_path)
    victim = own.add_worker()
    told: Queue[int] = Queue()
    try:
        with connect(f"file:{own.file}", insecure=False, jobs=1, note=str) as connection:
            future = connection.client.submit(sum, [1, 2], pure=False)
            wait_for(future.done)
            victim.kill()
            own.add_worker()
            connection.follow(future, told.put)
            assert told.get(timeout=300) == 3
    finally:
        own.end()


def test_a_cluster_that_is_restarted_goes_on(toy_suite: Suite, tmp_path: Path) -> None:
    """Its scheduler lives, and has forgotten the groups that were on their way: they go again."""
    log = tmp_path / "fits"
    log.touch()
    own = start_cluster(tmp_path, TOY_LOG=str(log), TOY_DELAY="1")
    own.add_worker(nanny=True)
    try:
        process = start_bench(toy_suite.replace(cluster=f"file:{own.file}"), log)
        wait_for(lambda: "fit " in log.read_text())
        with Client(scheduler_file=str(own.file), set_as_default=False) as client:
            client.restart()
        _, errors = process.communicate(timeout=600)
    finally:
        own.end()
    assert process.returncode == 0, errors
    suite = toy_suite.replace(estimators=("full", "tied", "diagonal"))
    assert len(find_missing(make_plan(suite), RunStore(suite.output)).done) == 6


@pytest.mark.parametrize("status", ["finished", "cancelled"])
def test_a_group_that_is_dropped_each_time_fails(
    status: str, cluster: Cluster, toy_suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the scheduler is gone where results cannot be fetched, or somebody drops the tasks."""
    error = OSError("no way") if status == "finished" else CancelledError()
    monkeypatch.setattr(Connection, "follow", lambda self, future, tell: tell(error))
    monkeypatch.setattr("distributed.Future.status", status)
    suite = toy_suite.replace(cluster=f"file:{cluster.file}", categories=("alpha",), estimators=("full",))
    bench(suite)
    [document] = [RunStore(suite.output).read(run.id) for run in make_plan(suite)]
    assert document["error"]["message"].startswith("the cluster dropped it 4 times, at last: ")


def start_bench(suite: Suite, log: Path) -> subprocess.Popen[str]:
    """The command line of a user."""
    words = [
        sys.executable,
        "-c",
        "from padim_zoo.cli.main import main; main()",
        "bench",
        "--dataset",
        "mvtec",
        "--data-root",
        suite.data_root,
    ]
    words += ["--backbones", "toy-linear", "--detectors", "toy", "--estimators", "full,tied,diagonal"]
    words += ["--resize", "none", "--crop", "none", "--quiet", "--output", suite.output, "--plugin", TOYS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOY_LOG": str(log)}
    command = [str(word) for word in [*words, "--cluster", suite.cluster]]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_interrupted_goes_on(toy_suite: Suite, tmp_path: Path) -> None:
    """Ctrl-C drops what is queued, and a dead scheduler ends the command; the next one does the rest."""
    log = tmp_path / "fits"
    log.touch()
    gate = tmp_path / "gate"
    gate.write_text("1")
    own = start_cluster(tmp_path, TOY_LOG=str(log), TOY_GATE=str(gate))
    own.add_worker()
    suite = toy_suite.replace(cluster=f"file:{own.file}", estimators=("full", "tied", "diagonal"))

    def fits() -> int:
        return log.read_text().count("fit ")

    try:
        process = start_bench(suite, log)
        wait_for(lambda: fits() == 2)  # which waits at the gate
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 130
        assert errors.splitlines()[-1] == "interrupted: 0 of 6 runs are done; run it again for the rest"
        gate.write_text("6")
        time.sleep(2)
        assert fits() == 2  # the flag is looked at between two runs

        gate.write_text("5")
        process = start_bench(suite, log)
        wait_for(lambda: fits() == 6)  # the first of the second group, which waits
        wait_for(lambda: len(list(suite.output.glob("*.json"))) == 3)
        own.scheduler.kill()
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 1
        [line] = errors.splitlines()  # and no link to a dashboard that the scheduler does not have
        assert line.startswith("Error: the scheduler of tcp://127.0.0.1:")
        assert line.endswith("is gone: run the command again for the rest")
    finally:
        own.end()
    assert len(find_missing(make_plan(suite), RunStore(suite.output)).done) == 3
    bench(suite.replace(cluster=None))
    assert not RunStore(suite.output).read_all().problems
    assert not find_missing(make_plan(suite), RunStore(suite.output)).plan.runs
