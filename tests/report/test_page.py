"""The report: its data against the run store, and the page itself in a browser."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, roc_auc_score

from padim_zoo.bench.plan import make_plan
from padim_zoo.bench.schedule import execute, find_missing
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.suite import Suite
from padim_zoo.cli import plot as plot_command
from padim_zoo.cli.bench import bench
from padim_zoo.cli.main import main
from padim_zoo.data.synthetic import generate
from padim_zoo.report import plots
from padim_zoo.report.commands import reproducing_command
from padim_zoo.report.page import curves, render_report, report_data

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    root = tmp_path_factory.mktemp("data")
    generate(root / "images", categories=["gear", "fabric"], train=10, good=4, defects_per_kind=2, size=64)
    settings = {"data_root": str(root / "images"), "resize": "64", "crop": "none", "cache": False}
    asked = {"estimators": "full,diagonal", "folds": "2", "train_sizes": "6,all", "output": str(root / "runs")}
    return Suite.from_settings(settings, asked)


@pytest.fixture(scope="module")
def store(suite: Suite) -> RunStore:
    store = RunStore(suite.output)
    for event in execute(suite, find_missing(make_plan(suite), store), store):
        assert event.document is None or event.document["status"] == "done"
    return store


def test_the_data_are_those_of_the_store(store: RunStore) -> None:
    documents = store.read_all().documents
    data = report_data(store, documents)
    assert len(data["runs"]) == len(documents) == 8
    runs = [row for row in data["rows"] if not row["mean"]]
    assert len({(row["category"], row["name"]) for row in runs}) == 8
    assert "padim · builtin · full · train size 6" in {row["name"] for row in runs}
    for row in runs:
        run, arrays = data["runs"][row["id"]], store.scores(row["id"])
        assert row["pixel_auroc"] == np.mean([fold["pixel_auroc"] for fold in run["folds"]])
        assert len(run["normal"]) == (arrays["labels"] == 0).sum()
        assert auc(*run["roc"]) == pytest.approx(roc_auc_score(arrays["labels"], arrays["scores"].mean(0)), abs=1e-4)
        assert auc(*run["pro"]) / 0.3 == pytest.approx(row["aupro"], abs=0.01)
        assert auc(*run["pixel_roc"]) == pytest.approx(row["pixel_auroc"], abs=0.01)


def test_no_curve_without_both_kinds_of_images() -> None:
    assert curves(np.zeros(3), np.arange(3.0)) == {"normal": [0.0, 1.0, 2.0], "anomalous": []}


def test_the_command_of_a_row_plans_the_same_run(store: RunStore, suite: Suite) -> None:
    names = {option: parameter.name for parameter in bench.params for option in parameter.opts}
    for document in store.read_all().documents:
        program, command, *words = shlex.split(str(reproducing_command(document)))
        assert (program, command) == ("padim-zoo", "bench")
        given: dict[str, Any] = {
            str(names[option]): value for option, value in zip(words[::2], words[1::2], strict=True)
        }
        given["data_root"] = str(suite.data_root)
        assert [run.id for run in make_plan(Suite.from_settings(given)).runs] == [document["id"]]


def test_nothing_in_a_run_store_can_end_its_script(store: RunStore, tmp_path: Path) -> None:
    shutil.copytree(store.folder, tmp_path / "runs")
    path = next((tmp_path / "runs").glob("*.json"))
    document = json.loads(path.read_text())
    document["notes"] = ["</script><script>alert(1)</script>"]
    path.write_text(json.dumps(document))
    assert "</script><script>alert" not in render_report(RunStore(tmp_path / "runs"))


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    for arguments, message in (
        (["report", str(tmp_path / "none")], "is not a folder: expected a run store"),
        (["report", str(tmp_path), "-o", str(tmp_path / "report.html")], "has no runs"),
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert message in result.output
        assert len(result.output.splitlines()) == 1
    assert not list(tmp_path.iterdir())


SCRIPT = """
<script>
const errors = []; window.onerror = message => errors.push(message);
const consoleError = console.error; console.error = (...parts) => errors.push(parts.join(" "));
window.onload = () => {
  const all = selector => [...document.querySelectorAll(selector)];
  const rows = () => all("#board tbody tr").map(tr => [...tr.cells].map(td => td.firstChild.textContent));
  const change = (id, value, event) => {
    const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event(event));
  };
  const heading = text => all("#board th button").find(b => b.textContent.startsWith(text));
  const found = {all: rows()};
  heading("pixel AUROC").click(); found.falling = rows().map(r => r[3]);
  heading("pixel AUROC").click(); found.rising = rows().map(r => r[3]);
  change("filter", "diagonal", "input"); found.filtered = rows();
  change("filter", "", "input"); change("category", "gear", "change"); found.gear = rows();
  change("figure", "aupro", "change"); found.axis = document.querySelector("#latency .ytitle").textContent;
  document.getElementById("theme").click(); found.theme = document.documentElement.dataset.theme;
  found.charts = all(".chart").filter(e => e.querySelector("svg")).map(e => e.id);
  found.errors = errors;
  const out = document.createElement("pre"); out.id = "found"; out.textContent = JSON.stringify(found);
  document.body.append(out);
};
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_page_works_in_a_browser(store: RunStore, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(store.folder), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page) < 10e6
    assert not re.search(r'(src|href)="http', page.split("<script>")[0])
    (tmp_path / "tested.html").write_text(page.replace("<head>", "<head>" + SCRIPT, 1), encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [str(CHROMIUM), *options, profile, (tmp_path / "tested.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    text = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert text, "the page's script did not run to its end"
    found = json.loads(html.unescape(text[1]))
    assert found["errors"] == []
    assert len(found["all"]) == 8 + 4  # runs and means
    assert found["falling"] == sorted(found["falling"], reverse=True)
    assert found["rising"] == sorted(found["rising"])
    assert len(found["filtered"]) == 6
    assert all("diagonal" in row[0] for row in found["filtered"])
    assert len(found["gear"]) == 4
    assert all(row[1] == "gear" for row in found["gear"])
    assert found["axis"] == "AUPRO"
    assert found["theme"] == "dark"
    assert set(found["charts"]) == {"latency", "size", "folds", "learning", "roc", "pr", "histogram"}


@pytest.mark.parametrize("kind", ["roc", "pr", "pareto", "folds", "histogram"])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_every_kind_of_plot(store: RunStore, tmp_path: Path, kind: str, suffix: str) -> None:
    output = tmp_path / f"plot.{suffix}"
    result = CliRunner().invoke(main, ["plot", str(store.folder), "--kind", kind, "-o", str(output)])
    assert result.exit_code == 0, result.output
    content = output.read_bytes()
    assert content.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in content
    assert len(content) > 5000


def test_plots_refuse_what_they_cannot_draw(store: RunStore, tmp_path: Path) -> None:
    runs = str(store.folder)
    for arguments, message in (
        ([runs, "--kind", "roc", "-o", "x.gif"], "expected .pdf, .png, .svg"),
        ([runs, "--kind", "folds", "--figure", "accuracy", "-o", "x.png"], "unknown figure 'accuracy'"),
        ([str(tmp_path), "--kind", "roc", "-o", "x.png"], "holds no run"),
    ):
        result = CliRunner().invoke(main, ["plot", *arguments])
        assert result.exit_code == 2
        assert message in result.output
    assert set(plot_command.KINDS) == set(plots.KINDS)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1))
def test_nothing_beats_the_front(points: list[tuple[int, int]]) -> None:
    front = plots.pareto_front([cost for cost, _ in points], [gain for _, gain in points])
    best = {
        (cost, gain)
        for cost, gain in points
        if not any((c <= cost and g > gain) or (c < cost and g >= gain) for c, g in points)
    }
    assert {points[index] for index in front} == best
