from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.store import FORMAT, RunStore
from padim_zoo.cli.main import main
from padim_zoo.metrics import paired_difference

LABELS = np.repeat([0, 1], (9, 12)).astype(np.uint8)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    store = RunStore(tmp_path / "runs")
    for number, (category, backbone) in enumerate(
        (c, b) for c in ("bottle", "cable") for b in ("resnet18", "resnet34")
    ):
        config = RunConfig(
            dataset="mvtec",
            category=category,
            data=category,
            detector="padim",
            backbone=backbone,
            weights_hash="0",
            layers=("layer1", "layer2", "layer3"),
            n_components=100,
            seed=0,
            folds=1,
            reduction="random",
            estimator="full",
            resize=256,
            crop=224,
            sigma=4.0,
            precision="float32",
        )
        figures = dict.fromkeys(("image_auroc", "pixel_auroc", "aupro"), 0.5 + number / 10)
        store.write(
            {
                "format": FORMAT,
                "id": config.id,
                "status": "done",
                "config": config.to_dict(),
                "weights": "default",
                "n_train": 9,
                "n_test": 9,
                "folds": [figures],
                "timings": {"fit_seconds": 4.0 - number},
                "notes": [],
                "error": None,
            },
            {"labels": LABELS, "scores": np.random.default_rng(number).normal(size=(2, len(LABELS))) + LABELS},
        )
    return store.folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["leaderboard", *map(str, arguments)])


def records(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_several_stores_are_one_leaderboard(runs: Path, tmp_path: Path) -> None:
    """As the shards of a benchmark leave them; of a run that several hold, the one that is done counts."""
    both = [tmp_path / "runs-1", tmp_path / "runs-2"]
    store = RunStore(runs)
    for number, document in enumerate(store.read_all().documents):
        RunStore(both[number % 2]).write(document)
        RunStore(both[(number + 1) % 2]).write(
            {**document, "status": "failed", "error": {"type": "E", "message": "no"}}
        )
    assert invoke(*both, "--format", "csv").stdout == invoke(runs, "--format", "csv").stdout
    assert "--watch and --compare take one run store" in invoke(*both, "--compare", "a", "b").stderr


def test_sorted_json_is_a_list_of_records(runs):
    rows = records(invoke(runs, "--sort", "image_auroc", "--format", "json"))
    assert [row["category"] for row in rows] == ["cable", "cable", "bottle", "bottle", "mean", "mean"]
    assert rows[0]["backbone"] == "resnet34"
    assert {"estimator", "detector", "image_auroc", "pixel_auroc", "aupro", "image_ap"} <= set(rows[0])
    assert rows[0]["image_ap"] is None


def test_by_gives_mean_rows(runs):
    rows = records(invoke(runs, "--by", "backbone", "--sort", "fit_seconds", "--format", "json"))
    assert [(row["backbone"], row["fit_seconds"]) for row in rows] == [("resnet34", 2.0), ("resnet18", 3.0)]
    assert rows[0]["image_auroc"] == pytest.approx(0.7)


def test_table_csv_and_markdown(runs):
    table = invoke(runs, "--by", "backbone,category")
    assert table.exit_code == 0
    assert "cable" in table.stdout
    assert len(list(csv.DictReader(io.StringIO(invoke(runs, "--format", "csv").stdout)))) == 6
    assert "\n| category | backbone | image AUROC |" in invoke(runs, "--format", "md").stdout


def test_bars_on_request(runs):
    assert "━" not in invoke(runs).stdout  # no terminal
    drawn = invoke(runs, "--bars")
    assert (drawn.exit_code, "━" in drawn.stdout) == (0, True)
    for form in ("csv", "json", "md"):
        assert invoke(runs, "--bars", "--format", form).stdout == invoke(runs, "--format", form).stdout


def test_parquet_to_a_file_and_to_a_pipe(runs, tmp_path):
    pytest.importorskip("pyarrow")
    assert invoke(runs, "--format", "parquet", "--output", tmp_path / "board.parquet").exit_code == 0
    assert len(pd.read_parquet(tmp_path / "board.parquet")) == 6
    assert invoke(runs, "--format", "parquet").stdout_bytes[:4] == b"PAR1"


def test_parquet_without_pyarrow_names_the_extra(runs, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find(name))
    result = invoke(runs, "--format", "parquet")
    assert result.exit_code == 2
    assert "pip install 'padim-zoo[parquet]', or in a clone pip install -e '.[parquet]'" in result.stderr


@pytest.mark.parametrize("form", ["table", "csv", "json", "md"])
def test_output_goes_to_a_file(runs, tmp_path, form):
    result = invoke(runs, "--format", form, "--output", tmp_path / "board")
    assert (result.exit_code, result.stdout) == (0, "")
    others = "; a suffix gives another format, such as .csv or .md" if form == "table" else ""
    assert result.stderr == f"{form} in {tmp_path / 'board'}{others}\n"
    assert "resnet34" in (tmp_path / "board").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["table", "csv"])
def test_an_export_that_fails_leaves_the_old_file(runs, tmp_path, monkeypatch, form):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    (tmp_path / "board").write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    result = invoke(runs, "--format", form, "--output", tmp_path / "board")
    assert (result.exit_code, "No space left" in result.stderr) == (3, True)
    assert (tmp_path / "board").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"board", "runs"}


def test_published_figures_in_new_columns(runs):
    rows = records(invoke(runs, "--published", "--format", "json"))
    published = {(row["category"], row["backbone"]): row["published_pixel_auroc"] for row in rows}
    assert published["bottle", "resnet18"] == pytest.approx(0.98, abs=0.01)
    assert published["bottle", "resnet34"] is None
    assert published["mean", "resnet18"] is None  # two categories are not fifteen
    shown = invoke(runs, "--published").stdout
    assert "publ." in shown
    assert "nothing is published" not in shown


@pytest.mark.parametrize("form", ["table", "md"])
def test_what_is_not_published_takes_no_columns(runs, form):
    for path in runs.glob("*.json"):
        if '"resnet18"' in path.read_text():
            path.unlink()
    shown = invoke(runs, "--published", "--format", form).stdout
    assert "pixel" in shown
    assert "publ." not in shown
    assert "nothing is published for these rows" in shown


def test_a_foreign_file_is_named_and_left_out(runs):
    (runs / "thesis.json").write_text('{"chapters": 3}')
    result = invoke(runs, "--format", "json")
    assert len(records(result)) == 6
    [warning] = result.stderr.splitlines()
    assert "thesis.json is not a run document" in warning


def ids_of(runs: Path) -> list[str]:
    """Ids of the runs: both backbones on bottle, both on cable."""
    rows = [row for row in records(invoke(runs, "--format", "json")) if row["id"]]
    return [str(row["id"]) for row in sorted(rows, key=lambda row: (row["category"], row["backbone"]))]


def test_two_runs_are_compared_on_the_same_images(runs):
    first, second, *_ = ids_of(runs)
    [row] = records(invoke(runs, "--compare", first, second[:9], "--format", "json"))
    store = RunStore(runs)
    expected = paired_difference(LABELS, store.scores(first)["scores"], store.scores(second)["scores"])
    assert (row["difference"], row["low"], row["high"], row["p_value"]) == pytest.approx(
        (expected.difference, expected.low, expected.high, expected.p_value)
    )
    assert (row["category"], row["id_a"], row["id_b"]) == ("bottle", first, second)
    text = invoke(runs, "--compare", first, second)
    assert text.exit_code == 0
    assert f"B − A = {expected.difference:+.4f}" in text.stdout
    assert "resnet34" in text.stdout


def test_runs_that_cannot_be_compared_are_refused_in_one_line(runs):
    first, second, other, _ = ids_of(runs)
    document = RunStore(runs).read(second)
    RunStore(runs).write(document | {"status": "failed", "error": {"type": "E", "message": "m", "traceback": ""}})
    for pair, message in (
        ((first, other), "have other test images"),
        ((first, first[:12]), "are the same run"),
        ((first, "xyz"), "no run has the id 'xyz'"),
        ((first, ""), "no run has the id ''"),
        ((first, second), "failed: only runs that are done"),
    ):
        result = invoke(runs, "--compare", *pair)
        assert (result.exit_code, result.stdout) == (2, "")
        [line] = result.stderr.splitlines()
        assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "image_aurok"], "did you mean image_auroc"),
        (["--by", "bakbone"], "did you mean backbone"),
        (["--by", "image_auroc"], "unknown column 'image_auroc'"),
        (["--output", "/dev/null/folder/board"], "/dev/null/folder/board"),
        (["--watch"], "standard output is not one"),
        (["--watch", "--format", "csv"], "leave out --compare, --published, --format and --output"),
    ],
)
def test_a_mistake_is_one_line(runs, arguments, message):
    result = invoke(runs, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert message in line


def test_a_folder_that_is_no_run_store(tmp_path):
    missing = invoke(tmp_path / "none")
    assert (missing.exit_code, "there is no run store" in missing.stderr) == (2, True)
    empty = invoke(tmp_path)
    assert (empty.exit_code, "holds no run" in empty.stderr) == (2, True)
    assert len(empty.stderr.splitlines()) == 1


def test_corruptions_are_a_table_of_their_own(runs: Path, tmp_path: Path) -> None:
    refused = invoke(runs, "--corruptions")
    assert refused.exit_code == 2
    assert "no run has corrupted images: padim-zoo bench --folds 5 --corruptions" in refused.output
    assert "leave out --by" in invoke(runs, "--corruptions", "--sort", "aupro").output
    store = RunStore(runs)
    document = store.read_all().documents[0]
    rates = {"false_alarms": 0.25, "detections": 0.75, "image_auroc": 0.8125}
    parts = [{"corruption": None, "amount": None, **rates}, {"corruption": "blur", "amount": 2.0, **rates}]
    store.write({**document, "corruptions": parts}, store.scores(document["id"]))
    first, second = records(invoke(runs, "--corruptions", "--format", "json"))
    assert first == {"category": document["config"]["category"], "corruption": "none", **rates, "id": document["id"]}
    assert second == {**first, "corruption": "blur(2)"}
    assert "blur(2)" in invoke(runs, "--corruptions").output
    assert invoke(runs, "--corruptions", "-o", tmp_path / "table.md").exit_code == 0
    assert "| blur(2) | 0.25 | 0.75 | 0.8125 |" in (tmp_path / "table.md").read_text()
