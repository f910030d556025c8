"""A metric is one row of the METRICS table: a new row is all it takes, and no other list names one.

The same for a setting is in ``test_toy_setting.py``.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from padim_zoo.bench.store import RunStore
from padim_zoo.cli.main import main
from padim_zoo.data.synthetic import generate
from padim_zoo.metrics import METRICS, Metric
from padim_zoo.metrics.ranked_test_set import RankedTestSet
from padim_zoo.report.page import report_data

PACKAGE = Path(__file__).resolve().parents[2] / "padim_zoo"
PAGE = sorted((PACKAGE / "report" / "web").iterdir())


def found_share(test_set: RankedTestSet) -> float:
    """The share of the anomalous images that score above every normal one."""
    return float((test_set.images.fp_at_or_above == 0).mean()) if test_set.images.defined else np.nan


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(METRICS, "toy", Metric("toy", "toy metric", "image", found_share, main=True))
    return "toy"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "images"
    generate(root, categories=["gear", "fabric"], train=8, good=3, defects_per_kind=1, size=64)
    return root


SMALL = ("--resize", "64", "--crop", "none", "--no-cache")


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.stdout


def test_evaluate_shows_a_new_metric(toy: str, images: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    run("fit", images / "gear" / "train" / "good", "--output", model, *SMALL)
    evaluate = ("evaluate", model, "--data-root", images, "--category", "gear", "--no-cache")
    assert 0 <= json.loads(run(*evaluate, "--json"))[toy] <= 1
    assert "toy metric" in run(*evaluate)


def test_a_benchmark_shows_a_new_metric_everywhere(toy: str, images: Path, tmp_path: Path) -> None:
    runs, baseline = tmp_path / "runs", tmp_path / "baseline.json"
    assert "toy" in run("bench", "--data-root", images, "--output", runs, *SMALL)
    store = RunStore(runs)
    documents = store.read_all().documents
    for document in documents:
        scores = store.scores(document["id"])
        [fold], labels = scores["scores"], scores["labels"]
        assert document["folds"][0][toy] == np.mean(fold[labels == 1] > fold[labels == 0].max())
    board = json.loads(run("leaderboard", runs, "--sort", toy, "--format", "json"))
    assert [row[toy] for row in board if row["id"]] == sorted((d["folds"][0][toy] for d in documents), reverse=True)
    assert all(f"{toy}_std" in row for row in board)
    assert all(f"{toy}_difference" in row for row in json.loads(run("compare", runs, runs, "--format", "json")))
    run("plot", runs, "--kind", "folds", "--metric", toy, "--output", tmp_path / "folds.svg")

    data = report_data(store, documents)
    [row] = [metric for metric in data["metrics"] if metric["name"] == toy]
    assert (row["title"], row["main"]) == ("toy metric", True)
    assert all(row[toy] is not None for row in data["rows"])

    run("check", runs, "--baseline", baseline, "--update")
    run("check", runs, "--baseline", baseline)
    for document in documents:
        document["folds"][0][toy] -= 0.5
        document["folds"][0]["unknown"] = 1.0
        store.write(document)
    # The baseline's images rank as before: it is the value that has fallen, and no resampled image explains it.
    assert toy in run("check", runs, "--baseline", baseline, "--memory-growth", "inf")


@pytest.mark.parametrize("level", ["image", "pixel"])
def test_check_fails_when_a_new_metric_gets_worse(
    monkeypatch: pytest.MonkeyPatch, images: Path, tmp_path: Path, level: str
) -> None:
    """Better now is low: what rises is worse."""
    runs, worse = tmp_path / "runs", tmp_path / "worse"
    row = {"name": "toy", "title": "toy metric", "level": level, "better": "low"}
    monkeypatch.setitem(METRICS, "toy", Metric(**row, compute=lambda test_set: 0.25))
    run("bench", "--data-root", images, "--output", runs, *SMALL)
    run("check", runs, "--baseline", tmp_path / "baseline.json", "--update")
    monkeypatch.setitem(METRICS, "toy", Metric(**row, compute=lambda test_set: 0.75))
    run("bench", "--data-root", images, "--output", worse, *SMALL)
    options = ("--baseline", tmp_path / "baseline.json", "--slowdown", "inf", "--memory-growth", "inf")
    told = run("check", worse, *options, status=1 if level == "pixel" else 0)
    assert "toy" in told
    monkeypatch.setitem(METRICS, "toy", Metric(**row, compute=lambda test_set: 0.75, checked=False))
    assert "toy" not in run("check", worse, *options)


def test_a_metric_that_a_baseline_and_a_store_lack_is_undefined(
    monkeypatch: pytest.MonkeyPatch, images: Path, tmp_path: Path
) -> None:
    runs, baseline = tmp_path / "runs", tmp_path / "baseline.json"
    run("bench", "--data-root", images, "--output", runs, *SMALL)
    run("check", runs, "--baseline", baseline, "--update")
    monkeypatch.setitem(METRICS, "toy", Metric("toy", "toy metric", "image", found_share, main=True))
    assert "no regression" in run("check", runs, "--baseline", baseline)
    assert all(row["toy"] is None for row in json.loads(run("leaderboard", runs, "--format", "json")))
    assert "toy" not in run("leaderboard", runs)  # no row has a value
    assert "–" in run("leaderboard", runs, "--sort", "toy")
    run("report", runs, "--output", tmp_path / "report.html")


# -- no other list ----------------------------------------------------------------------------------------------------


def names_in_python(source: str) -> Iterator[str]:
    """Names of metrics in strings and identifiers of a module, its docstrings left out."""
    docstrings = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docstrings.add(node.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            words = re.split(r"[^\w-]+", node.value)
        else:
            words = [getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)]
        yield from (word for word in words if word in METRICS)


def names_in_page(source: str) -> Iterator[str]:
    """Names of metrics in a script, a style or a template."""
    yield from (word for word in re.findall(r"\w+", source) if word in METRICS)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_names_a_metric(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] != "metrics":
        assert list(names_in_python(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", PAGE, ids=lambda path: path.name)
def test_the_page_reads_the_table(path: Path) -> None:
    assert list(names_in_page(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('MAIN = ["image_auroc", "aupro"]', ["image_auroc", "aupro"]),
        ('SOME = "pixel_ap, pixel_f1".split()', ["pixel_ap", "pixel_f1"]),
        ("print(row.aupro)", ["aupro"]),
        ("def f(aupro): pass", ["aupro"]),
        ('"""Such as aupro."""\nlimit = "aupro_limit"\nthreshold = "image_f1_threshold"', []),
    ],
)
def test_the_rule_sees_a_name_in_python(source: str, expected: list[str]) -> None:
    assert list(names_in_python(source)) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('const keys = ["image_auroc"];', ["image_auroc"]),
        ("row.aupro > 0.5", ["aupro"]),
        ("const TITLES = {pixel_ap: 'AP'};", ["pixel_ap"]),
        ("fold.image_f1_threshold", []),
    ],
)
def test_the_rule_sees_a_name_in_a_script(source: str, expected: list[str]) -> None:
    assert list(names_in_page(source)) == expected
