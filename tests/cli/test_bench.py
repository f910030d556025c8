from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from padim_zoo import registry
from padim_zoo.cli.main import main

PLUGIN = Path(__file__).parents[1] / "bench" / "toy_zoo.py"


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the plugin registers is forgotten after a test."""
    for kind in registry.REGISTRIES.values():
        kind.names()
        monkeypatch.setattr(kind, "_entries", dict(kind._entries))


@pytest.fixture
def toys() -> ModuleType:
    registry.load_plugin(PLUGIN)
    return sys.modules["padim_zoo_plugin_toy_zoo"]


@pytest.fixture
def arguments(toys: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A bench of toys, without what it writes to."""
    monkeypatch.chdir(tmp_path)
    root = toys.make_images(tmp_path / "images")
    common = ["--detectors", "toy", "--backbones", "toy-linear", "--resize", "none", "--crop", "none"]
    return ["bench", "--plugin", str(PLUGIN), "--dataset", "mvtec", "--data-root", str(root), *common]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def lines(result: Result) -> list[dict[str, object]]:
    told = [json.loads(line) for line in result.stderr.splitlines()]
    return [line for line in told if "looks at" not in line.get("note", "")]


def test_a_leaderboard_on_stdout_and_json_lines_on_stderr(arguments):
    result = invoke(*arguments, "--estimators", "full,tied")
    assert result.exit_code == 0, result.output
    assert [line["done"] for line in lines(result)] == [1, 2, 3, 4]
    assert {line["status"] for line in lines(result)} == {"done"}
    assert {line["of"] for line in lines(result)} == {4}
    for text in ("alpha", "beta", "mean", "full", "tied", "AUPRO"):
        assert text in result.stdout
    assert len(list(Path("runs").glob("*.json"))) == 4

    again = invoke(*arguments, "--estimators", "full,tied")
    assert again.exit_code == 0
    assert lines(again) == []
    assert again.stdout == result.stdout


def test_quiet_shows_the_notes_of_runs_and_nothing_else(arguments):
    result = invoke(*arguments, "--quiet")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (
        "no threshold, so neither detections nor false alarms: give --folds, e.g. 5 (without, only padim with "
        "an estimator such as full or ledoit-wolf has one" in result.stderr
    )
    assert "AUPIMO" not in result.stderr  # no run has one, so no column shows it
    assert "AUPIMO is undefined: " in invoke("leaderboard", "runs", "--sort", "aupimo").stdout
    assert all(line.startswith(("all: ", "alpha ", "mean ")) for line in result.stderr.splitlines())
    loud = invoke(*arguments)
    assert result.stderr.splitlines() == loud.stdout.splitlines()[-2:]
    assert len(list(Path("runs").glob("*.json"))) == 2 * 3


def test_quiet_still_tells_notes(arguments):
    options = ("--quiet", "--estimators", "full", "--categories", "alpha")
    invoke(*arguments, *options)
    [path] = Path("runs").glob("*.json")
    path.write_text("{")
    result = invoke(*arguments, *options)
    assert (result.exit_code, result.stdout) == (0, "")
    line, *of_runs = result.stderr.splitlines()
    assert len(of_runs) == 1
    assert path.name in line
    assert "it is done again" in line


def test_failed_runs_are_rows_and_exit_status_1(arguments):
    result = invoke(*arguments, "--estimators", "full,spherical", "--categories", "alpha")
    assert result.exit_code == 1
    assert "failed" in result.stdout
    assert "a toy cannot be spherical" in result.stdout
    assert "1 of 2 runs failed" in result.stderr
    again = invoke(*arguments, "--estimators", "full,spherical", "--categories", "alpha")
    assert lines_without_last(again)[0] == {"note": "1 run that failed before is tried again"}


def lines_without_last(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stderr.splitlines()[:-1]]


def test_an_ensemble_is_a_row_as_any(arguments):
    options = ["--detectors", "padim", "--backbones", "builtin", "--estimators", "full", "--resize", "24"]
    options += ["--categories", "alpha", "--ensemble", "builtin+scattering", "--rule", "rank"]
    result = invoke(*arguments, *options)
    assert result.exit_code == 0, result.output
    assert [line["ensemble"] for line in lines(result)] == [None, None, "rank"]
    assert lines(result)[-1]["folds"] == 1
    assert "builtin+scattering" in result.stdout


def test_options_override_the_file(arguments, tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text("estimators: [full, tied]\ncategories: alpha\noutput: elsewhere\nfolds: 3\n")
    result = invoke(*arguments, "--config", suite, "--estimators", "tied")
    assert result.exit_code == 0, result.output
    [line] = lines(result)
    assert (line["category"], line["estimator"], line["folds"]) == ("alpha", "tied", 3)
    assert len(list(Path("elsewhere").glob("*.json"))) == 1


def test_a_damaged_run_is_done_again(arguments):
    invoke(*arguments, "--estimators", "full", "--categories", "alpha")
    [path] = Path("runs").glob("*.json")
    content = path.read_text()
    path.write_text(content[:100])
    result = invoke(*arguments, "--estimators", "full", "--categories", "alpha")
    assert result.exit_code == 0
    assert path.name in str(lines(result)[0]["note"])
    assert json.loads(path.read_text())["folds"] == json.loads(content)["folds"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbones", "toy-linaer"], "did you mean toy-linear"),
        (["--estimators", "fulll"], "did you mean full"),
        (["--dataset", "mvtek"], "did you mean mvtec"),
        (["--data-root", "nowhere"], "nowhere"),
        (["--categories", "alfa"], "did you mean alpha"),
        (["--folds", "0"], "folds is 0"),
        (["--ensemble", "toy-linear+toy-square"], "expected two or more, each on a backbone"),
        (["--rule", "sum"], "--rule is 'sum': expected mean, max or rank"),
        (["--map-values", "p"], "--map-values is 'p': expected score or p-value"),
        (["--seeds", "a"], "seeds is 'a'"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--plugin", "none.py"], "none.py"),
        (["--weights", "resnet18=none"], "none of the backbones asked for"),
        (["--backbones", "resnet18", "--weights", "none.pth"], "none.pth"),
        (["--crop", "huge"], "huge"),
        (["--jobs", "0"], "jobs is 0"),
        (["--output", "images/alpha/test/good/000.png"], "is a file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, options, message):
    result = invoke(*arguments, *options)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_says_how_to_go_on(arguments, jobs, tmp_path):
    script = "from padim_zoo.cli.main import main; main()"
    command = [sys.executable, "-c", script, *arguments, "--jobs", jobs, "--estimators", "full,tied"]
    # The first run is done, and the second one waits for the signal, however late that is.
    gate = tmp_path / "gate"
    gate.write_text("1")
    environment = {**os.environ, "TOY_LOG": str(tmp_path / "log"), "TOY_GATE": str(gate)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    while not list(tmp_path.glob("runs/*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "runs are done; run it again for the rest" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert invoke(*arguments, "--estimators", "full,tied").exit_code == 0


def test_a_slurm_array_script_runs_each_shard(tmp_path: Path) -> None:
    words = ["bench", "--folds", "2", "--output=x", "--print-sbatch", "16", "--estimators", "full"]
    script = CliRunner().invoke(main, words).stdout
    [line] = [line for line in script.splitlines() if line.startswith("srun")]
    assert line == (
        'srun padim-zoo bench --folds 2 --estimators full --shard "$SLURM_ARRAY_TASK_ID/16" '
        '--output x-"$SLURM_ARRAY_TASK_ID"'
    )
    refused = CliRunner().invoke(main, [*words, "--shard", "1/2"])
    assert (refused.exit_code, "leave out --shard" in refused.stderr) == (2, True)
    assert "#SBATCH --array=1-16" in script
