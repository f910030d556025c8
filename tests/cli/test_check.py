from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.store import FORMAT, RunStore
from padim_zoo.cli.main import main

ENVIRONMENT = {"calibration_seconds": 0.01, "threads": 2, "jobs": 1, "gpu": None}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_runs(folder: str, fit_seconds: float = 4.0, status: str = "done", categories=("gear", "wood"), **changes):
    store = RunStore(folder)
    labels = np.array([0, 0, 0, 1, 1, 1], dtype=np.uint8)
    figures = {"image_auroc": 1.0, "image_ap": 1.0, "image_f1": 1.0, "pixel_auroc": 0.9, "aupro": 0.8}
    for category in categories:
        config = RunConfig(
            dataset="mvtec",
            category=category,
            data=category,
            detector="padim",
            backbone="resnet18",
            weights_hash="0",
            layers=("layer1",),
            n_components=100,
            estimator="full",
            seed=0,
            folds=1,
        )
        document = {
            "format": FORMAT,
            "id": config.id,
            "status": status,
            "config": config.to_dict(),
            "weights": "default",
            "folds": [figures],
            "timings": {"fit_seconds": fit_seconds, "model_mb": 50.0, "peak_memory_mb": 900.0},
            "notes": [],
            "error": {"type": "E", "message": "out of luck"} if status == "failed" else None,
            "environment": ENVIRONMENT,
        }
        store.write({**document, **changes}, {"labels": labels, "scores": np.arange(6.0)[None]})
    return folder


def write_benchmarks(path: str, median: float, machine_info=None):
    stats = {"min": 0.9 * median, "median": median}
    content = {
        "machine_info": {"padim_zoo": ENVIRONMENT} if machine_info is None else machine_info,
        "benchmarks": [{"fullname": "benchmarks/test_fit.py::test_fit[full]", "stats": stats}],
    }
    Path(path).write_text(json.dumps(content))
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments), "--baseline", "baseline.json"])


def test_update_then_check(tmp_path):
    updated = invoke(write_runs("runs"), "--update")
    assert (updated.exit_code, updated.output) == (0, "baseline.json: 2 runs, 0 benchmarks\n")
    same = invoke("runs")
    assert (same.exit_code, same.stdout) == (0, "no regression in 2 runs\n")

    slower = invoke(write_runs("slower", fit_seconds=8.0))
    assert slower.exit_code == 1
    for text in ("1 regression in 2 runs", "fit_seconds", "4 s", "8 s", "× 2.00", "over × 1.3"):
        assert text in slower.stdout
    assert invoke("slower", "--slowdown", "2.1").exit_code == 0
    assert invoke("slower", "--slowdown", "inf").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baseline.json", "runs", "slower"]


def test_parts_are_updated_by_themselves():
    invoke(write_runs("runs"), "--update")
    both = invoke("--benchmarks", write_benchmarks("stages.json", 0.1), "--update")
    assert both.output == "baseline.json: 2 runs, 1 benchmark\n"
    assert invoke("runs", "--benchmarks", "stages.json").stdout == "no regression in 2 runs and 1 benchmark\n"
    assert "no run store was given" in invoke("--benchmarks", "stages.json").stdout
    slower = invoke("runs", "--benchmarks", write_benchmarks("slower.json", 0.2))
    assert slower.exit_code == 1
    assert "test_fit[full]" in slower.stdout


def test_a_baseline_of_a_busy_machine_is_warned_of():
    busy = {**ENVIRONMENT, "processor_share": 0.4}
    updated = invoke(write_runs("runs", environment=busy), "--update")
    assert (updated.exit_code, updated.stdout) == (0, "baseline.json: 2 runs, 0 benchmarks\n")
    assert "the machine was busy" in updated.stderr
    again = invoke(write_runs("again", fit_seconds=90.0))
    assert again.exit_code == 0
    assert "other work left 40% of the processor for the baseline" in again.stdout


def test_failed_runs_are_left_out_of_a_baseline():
    write_runs("runs", categories=("gear",))
    write_runs("runs", categories=("wood",), status="failed")
    result = invoke("runs", "--update")
    assert result.stdout == "baseline.json: 1 run, 0 benchmarks\n"
    assert "1 run that failed is left out" in result.stderr
    assert invoke(write_runs("failed", categories=("gear",), status="failed")).exit_code == 1
    all_failed = CliRunner().invoke(main, ["check", "failed", "--update", "--baseline", "other.json"])
    assert (all_failed.exit_code, Path("other.json").exists()) == (2, False)


def test_a_foreign_file_in_the_store_is_named_and_left_out():
    invoke(write_runs("runs"), "--update")
    Path("runs", "baseline.json").write_text(Path("baseline.json").read_text())
    result = invoke("runs")
    assert result.exit_code == 0
    assert "baseline.json is not a run document" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to compare"),
        (["nowhere"], "there is no run store nowhere"),
        (["empty"], "holds no run"),
        (["old"], "no calibration time"),
        (["other"], "none of the 1 runs"),
        (["runs", "--benchmarks", "nowhere.json"], "cannot read the benchmarks"),
        (["runs", "--benchmarks", "baseline.json"], "is not what pytest --benchmark-json writes"),
        (["runs", "--benchmarks", "list.json"], "is not what pytest --benchmark-json writes"),
        (["runs", "--benchmarks", "text.json"], "is not what pytest --benchmark-json writes"),
        (["runs", "--benchmarks", "none.json"], "holds no benchmark"),
        (["runs", "--benchmarks", "foreign.json"], "no calibration time"),
        (["runs", "--benchmarks", "stages.json"], "none of the 1 benchmarks is in the baseline"),
        (["runs", "--slowdown", "0.5"], "slowdown is 0.5"),
        (["runs", "--accuracy-drop", "nan"], "accuracy_drop is nan"),
        (["runs", "--memory-growth", "much"], "much"),
    ],
)
def test_input_that_cannot_be_used(arguments, message):
    invoke(write_runs("runs"), "--update")
    Path("empty").mkdir()
    write_runs("old", environment={"threads": 2})
    write_runs("other", categories=("leather",))
    write_benchmarks("stages.json", 0.1)
    write_benchmarks("foreign.json", 0.1, machine_info={"node": "x"})
    Path("none.json").write_text('{"benchmarks": []}')
    Path("list.json").write_text("[]")
    Path("text.json").write_text("fit: 3 s")
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("not JSON", "baseline.json is not a baseline but text: expected what padim-zoo check --update writes"),
        (b"\xb0\0\xff", "baseline.json is not a baseline but binary data: expected"),
        ('{"kind": ', "is not a baseline but JSON that is cut off or damaged"),
        ("[]", "is not a baseline"),
        ('{"benchmarks": []}', "is not a baseline"),
        ('{"kind": "padim-zoo baseline", "format": 0}', "this version reads format 1"),
        ('{"kind": "padim-zoo baseline", "format": 1}', "its digest differs"),
    ],
)
def test_a_baseline_that_cannot_be_used(content, message):
    write_runs("runs")
    if content is not None:
        content = content if isinstance(content, bytes) else content.encode()
        Path("baseline.json").write_bytes(content)
    result = invoke("runs")
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert message in line
    if content is not None:  # nothing that is not ours is overwritten
        assert invoke("runs", "--update").exit_code == 2
        assert Path("baseline.json").read_bytes() == content


def test_a_history_gets_a_line_for_each_check(monkeypatch):
    monkeypatch.setenv("GITHUB_SHA", "0123456789abcdef")
    invoke(write_runs("runs"), "--update", "--history", "history.jsonl")
    assert invoke("runs", "--history", "history.jsonl").exit_code == 0
    monkeypatch.setenv("GITHUB_SHA", "fedcba9876543210")
    assert invoke(write_runs("slower", fit_seconds=8.0), "--history", "history.jsonl").exit_code == 1
    entries = [json.loads(line) for line in Path("history.jsonl").read_text().splitlines()]
    assert [entry["commit"][:7] for entry in entries] == ["0123456", "0123456", "fedcba9"]
    assert [entry["costs"]["fit_seconds"] for entry in entries] == [4.0, 4.0, 8.0]
    assert [entry["regressions"] > 0 for entry in entries] == [False, False, True]
    assert entries[0]["metrics"]["pixel_auroc"] == 0.9
    assert entries[0]["metrics"]["aupimo"] is None

    pytest.importorskip("matplotlib")
    plot = ["plot", "--history", "history.jsonl", "-o", "history.svg"]
    assert CliRunner().invoke(main, plot).exit_code == 0
    drawn = Path("history.svg").read_text()
    assert all(text in drawn for text in ("accuracy", "time", "memory", "fedcba9", "pixel AUROC"))
    assert CliRunner().invoke(main, [*plot, "--kind", "roc"]).exit_code == 2
    assert CliRunner().invoke(main, ["plot", "-o", "x.svg"]).exit_code == 2


def test_what_is_no_history_is_left_alone():
    invoke(write_runs("runs"), "--update")
    Path("notes.txt").write_text("dear diary\n")
    refused = invoke("runs", "--history", "notes.txt")
    assert refused.exit_code == 2
    assert "line 1 of notes.txt is not an entry of format 1" in refused.output
    assert Path("notes.txt").read_text() == "dear diary\n"
    assert CliRunner().invoke(main, ["plot", "--history", "no.jsonl", "-o", "x.svg"]).exit_code == 2


def test_the_fastest_of_several_sessions_counts():
    invoke("--benchmarks", write_benchmarks("before.json", 1.0), "--update")
    disturbed, quiet, slower = (write_benchmarks(f"{time}.json", time) for time in (5.0, 1.1, 1.9))
    assert invoke("--benchmarks", disturbed).exit_code == 1
    assert invoke("--benchmarks", disturbed, "--benchmarks", quiet).exit_code == 0
    really = invoke("--benchmarks", disturbed, "--benchmarks", slower)
    assert really.exit_code == 1
    assert "× 1.90" in really.stdout
    halved = {**ENVIRONMENT, "calibration_seconds": 2 * ENVIRONMENT["calibration_seconds"]}
    elsewhere = write_benchmarks("elsewhere.json", 2.1, {"padim_zoo": halved})  # as fast as 1.05 on the first machine
    assert invoke("--benchmarks", disturbed, "--benchmarks", elsewhere).exit_code == 0
    other = write_benchmarks("other.json", 1.0, {"padim_zoo": {**ENVIRONMENT, "threads": 96}})
    refused = invoke("--benchmarks", quiet, "--benchmarks", other)
    assert refused.exit_code == 2
    assert "not of one machine" in refused.stderr


def test_processor_times_beside_a_reference_count_where_they_were_measured():
    def session(path, stage, reference, skipped=()):
        content = json.loads(Path(write_benchmarks(path, 7.0)).read_text())
        times = {name: {"min": time, "median": time} for name, time in (("stage", stage), ("reference", reference))}
        content["benchmarks"][0]["extra_info"] = {"cpu_seconds": times}
        Path(path).write_text(json.dumps({**content, "skipped": dict(skipped)}))
        return path

    skipped = {"benchmarks/test_fit.py::test_fit[oas]": "no such thing"}
    updated = invoke("--benchmarks", session("before.json", 0.1, 0.1, skipped), "--update")
    assert updated.stdout == "baseline.json: 0 runs, 1 benchmark\n"
    assert "1 benchmarks that this machine cannot run are left out" in updated.stderr
    assert invoke("--benchmarks", session("disturbed.json", 0.5, 0.5)).exit_code == 0
    slower = invoke("--benchmarks", session("slower.json", 0.5, 0.2))
    assert slower.exit_code == 1
    assert "× 2.50" in slower.stdout
