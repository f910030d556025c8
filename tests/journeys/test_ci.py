"""The third journey: from a baseline to a green and a red check in another repository, by the steps of the workflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from padim_zoo import registry
from padim_zoo.bench.check.baseline import read_baseline, write_baseline

ROOT = Path(__file__).parents[2]
TOYS = ROOT / "tests" / "bench" / "toy_zoo.py"
BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(BASH is None or os.name != "posix", reason="steps of CI are written for bash")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Another repository, with a suite; commands of a runner that stand for pip and padim-zoo."""
    folder = tmp_path / "their repository"
    commands = tmp_path / "bin"
    for path in (folder, commands, tmp_path / "runner temp"):
        path.mkdir()
    zoo = f"{sys.executable} -c 'from padim_zoo.cli.main import main; main()'"
    for name, line in {"pip": f'echo "$@" >> "{tmp_path}/pip.txt"', "padim-zoo": f'exec {zoo} "$@"'}.items():
        command = commands / name
        command.write_text(f"#!/bin/sh\n{line}\n")
        command.chmod(0o755)
    plugin = registry.load_plugin(TOYS)
    sys.modules["padim_zoo_plugin_toy_zoo"].make_images(folder / "images")
    plugin.take_back()
    shutil.copy(TOYS, folder / "toy_zoo.py")
    suite = {"plugin": "toy_zoo.py", "dataset": "mvtec", "data_root": "images", "backbones": "toy-linear"}
    suite |= {"detectors": "toy", "estimators": "full", "resize": "none", "crop": "none"}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    return folder


def environment(repository: Path, more: dict[str, str]) -> dict[str, str]:
    temp = repository.parent
    own = {"RUNNER_TEMP": str(temp / "runner temp"), "GITHUB_STEP_SUMMARY": str(temp / "summary.md")}
    paths = {"PATH": f"{temp / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **own, **paths, "GITHUB_SHA": "0123456789", **more}


def run_step(step: dict[str, Any], repository: Path, more: dict[str, str]) -> int:
    """The exit code of a step, run as a runner runs it."""
    assert BASH is not None
    command = [BASH, "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=repository, env=environment(repository, more), capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def make_worse(repository: Path) -> None:
    """Let the baseline ask for more than the runs give: the same as a change that lost accuracy."""
    path = repository / "baseline.json"
    baseline = read_baseline(path)
    rows = [replace(row, costs={name: cost / 1000 for name, cost in row.costs.items()}) for row in baseline.rows]
    write_baseline(path, replace(baseline, rows=rows))


def green_then_red(repository: Path, run: dict[str, Any]) -> None:
    """Steps by name: install, run the suite, update, check."""
    assert run["install"]() == 0
    installed = (repository.parent / "pip.txt").read_text()
    assert "torch torchvision --index-url" in installed
    assert run["suite"]() == 0
    assert run["update"]() == 0
    assert run["check"]() == 0
    assert "no regression" in (repository.parent / "summary.md").read_text()
    make_worse(repository)
    assert run["check"]() == 1
    entries = [json.loads(line) for line in (repository / "history.jsonl").read_text().splitlines()]
    assert [bool(entry["regressions"]) for entry in entries] == [False, False, True]


def test_the_workflow_in_another_repository(repository: Path) -> None:
    job = yaml.safe_load((ROOT / "docs" / "workflows" / "padim-zoo.yml").read_text(encoding="utf-8"))["jobs"]["check"]
    steps = {step["name"]: step for step in job["steps"] if "name" in step}
    assert "runner." not in str(job)  # which GitHub knows in steps only: a workflow that asks before does not start
    variables = {name: str(value) for name, value in job["env"].items()}
    names = {"install": "Install", "suite": "Run the suite", "update": "Update", "check": "Check"}
    run = {kind: lambda name=name: run_step(steps[name], repository, variables) for kind, name in names.items()}
    green_then_red(repository, run)
    assert "padim-zoo ." in (repository.parent / "pip.txt").read_text()


def test_the_action_in_another_repository(repository: Path) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    inputs = {name: entry["default"] for name, entry in action["inputs"].items()}

    def variables(step: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
        values = {**inputs, **given}

        def filled(text: str) -> str:
            name = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+)(?: \|\| github\.action_path)? \}\}", text)
            assert name, text
            return values[name[1]] or (str(ROOT) if "action_path" in text else "")

        return {variable: filled(text) for variable, text in step.get("env", {}).items()}

    steps = {step["name"]: step for step in action["runs"]["steps"]}
    assert all(step["shell"] == "bash" for step in steps.values())

    def runner(name: str, **given: str) -> Any:
        return lambda: run_step(steps[name], repository, variables(steps[name], given))

    green_then_red(
        repository,
        {
            "install": runner("Install", plugin="their-plugin"),
            "suite": runner("Run the suite"),
            "update": runner("Check", update="true"),
            "check": runner("Check"),
        },
    )
    assert f"{ROOT} their-plugin" in (repository.parent / "pip.txt").read_text()
