"""The way from a benchmark to the verdict: what ``benchmarks/conftest.py`` writes is what ``padim-zoo check`` holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from padim_zoo.cli.main import main

ROOT = Path(__file__).parents[2]

STAGES = '''
import os

import conftest
import pytest

now = 0.0
conftest.cpu_seconds = lambda: now


def work(seconds):
    """Takes that long, of a clock that nothing else moves; and of every fifth round, ten times as long."""

    def done():
        global now
        done.rounds += 1
        now += seconds * float(os.environ["MACHINE"]) * (10 if done.rounds % 5 == 0 else 1)

    done.rounds = 0
    return done


def test_stage(beside):
    beside(work(0.1), work(float(os.environ["STAGE"])), "the reference")


@pytest.mark.skipif(os.environ["MACHINE"] != "1", reason="not on this machine")
def test_elsewhere(beside):
    beside(work(0.1), work(0.1), "the reference")
'''


@pytest.fixture
def session(tmp_path: Path):
    """Measures two toy stages with pytest-benchmark; gives the file that it wrote."""
    shutil.copy(ROOT / "benchmarks" / "conftest.py", tmp_path)
    (tmp_path / "test_stages.py").write_text(STAGES)

    def measure(name: str, stage: float, machine: float = 1) -> str:
        output = tmp_path / f"{name}.json"
        command = [sys.executable, "-m", "pytest", str(tmp_path), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
        # pytest-benchmark measures nothing in a worker of xdist, which this process may be, or is told to start.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment = {**inherited, "STAGE": str(stage), "MACHINE": str(machine), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*command, "--benchmark-json", str(output)], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"× {stage / 0.1:.2f}" in done.stdout
        return str(output)

    return measure


def test_a_stage_that_became_slower_beside_its_reference_is_caught_whatever_the_machine(session, tmp_path):
    def check(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["check", "--baseline", str(tmp_path / "baseline.json"), *arguments])

    before = session("before", 0.2)
    assert check("--benchmarks", before, "--update").exit_code == 0
    assert check("--benchmarks", before).exit_code == 0
    slower = check("--benchmarks", session("slower", 0.5, machine=7.5))
    assert slower.exit_code == 1
    assert slower.stdout.startswith("1 regression in 1 benchmark\n")
    assert "× 2.50" in slower.stdout
    assert "benchmarks not run here (not on this machine): test_stages.py::test_elsewhere" in slower.stdout
