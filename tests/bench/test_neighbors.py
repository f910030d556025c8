"""Workers, other benchmarks and the current folder do a benchmark no harm."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from padim_zoo.bench.claims import Claims
from padim_zoo.bench.executors import processes, worker_process
from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import FORMAT, NewerRunError, RunStore

MAIN = "from padim_zoo.cli.main import main\n\nif __name__ == '__main__':\n    main()\n"


@pytest.fixture
def command(suite, tmp_path: Path) -> list[str]:
    """The suite from a script in another folder, so that Python does not look for modules in the current one."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "run.py").write_text(MAIN)
    plugins = [f"--plugin={path}" for path in suite.plugin]
    options = f"--dataset mvtec --data-root {suite.data_root} --backbones toy-* --estimators full,tied --detectors toy"
    more = f"--resize none --crop none --output {suite.output} --quiet --jobs 2"
    return [sys.executable, str(tmp_path / "scripts" / "run.py"), "bench", *options.split(), *more.split(), *plugins]


def test_nothing_is_imported_from_the_current_folder(command, suite, tmp_path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("selectors", "signal", "torch", "padim_zoo_shadow"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w').close()\nraise SystemExit\n")
    relative = [*command, "--output", "runs"]
    done = subprocess.run(relative, cwd=here, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert list(here.glob("runs/*.json"))  # where it was asked for, though workers start elsewhere
    assert not (tmp_path / "trace").exists()


def start(command: list[str], delay: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TOY_DELAY": delay})


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_end_with_their_parent(command, log) -> None:
    process = start(command, "1000")
    wait_for(lambda: log("fit"))
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_are_taken_as_ctrl_c(number: int, command, log, suite) -> None:
    process = start(command, "1000")
    wait_for(lambda: log("fit"))
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert "run it again for the rest" in errors
    assert not list(suite.output.glob(".*.tmp"))


def test_two_benchmarks_share_the_work(command, log, suite) -> None:
    processes = [start(command, "0.5") for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert len(log("fit")) == len(list(suite.output.glob("*.json")))
    assert not list(suite.output.glob(".*.claim"))


def test_a_claim_ends_with_its_owner(tmp_path: Path) -> None:
    code = f"from padim_zoo.bench.claims import *\nclaims = Claims(Path({str(tmp_path)!r}))\nclaims.take(['a'])\n"
    owner = subprocess.Popen([sys.executable, "-c", f"{code}print(1, flush=True)\ninput()"], stdin=-1, stdout=-1)
    assert owner.stdout is not None
    owner.stdout.readline()
    claims = Claims(tmp_path)
    claims.take(["a", "b"])
    assert ("a" in claims, "b" in claims) == (False, True)
    owner.kill()
    owner.communicate()
    claims.take(["a"])
    assert "a" in claims
    claims.release()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_hangs_fails_its_run(run_suite, suite, monkeypatch) -> None:
    monkeypatch.setenv("TOY_DELAY", "100")
    # A fork server that earlier tests have started does not know this environment.
    monkeypatch.setattr(processes, "_context", lambda: multiprocessing.get_context("spawn"))
    monkeypatch.setattr(processes, "HANG_SECONDS", 1.0)
    for module in (processes, worker_process):
        monkeypatch.setattr(module, "CHECK_SECONDS", 0.5)
    documents = run_suite(suite, categories=(), jobs=2)
    assert {document["error"]["message"] for document in documents} == {
        "the worker process failed: it did nothing for 1 seconds"
    }


def test_runs_of_a_later_version_are_not_overwritten(run_suite, suite) -> None:
    [document] = run_suite(suite)
    path = suite.output / f"{document['id']}.json"
    newer = json.dumps({"format": FORMAT + 1, "id": document["id"]})
    path.write_text(newer)
    with pytest.raises(NewerRunError, match=r"of a later version: upgrade padim-zoo"):
        find_missing(make_plan(suite), RunStore(suite.output))
    assert path.read_text() == newer


def test_a_store_that_cannot_be_written_to_is_told_before_the_first_run(suite, log, monkeypatch) -> None:
    suite.output.parent.joinpath("runs").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        RunStore(suite.output)
    suite.output.unlink()
    store = RunStore(suite.output / "below")
    suite.output.write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        list(execute(suite, find_missing(make_plan(suite), store), store))
    assert not log("fit")
