"""The suffix decides what a table is written as: of the leaderboard, of a comparison and of a check."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_documents import document

from padim_zoo.bench.formats import TextTable, to_html, to_latex, to_markdown
from padim_zoo.bench.store import RunStore
from tests.command_line import run

LATEX = next((name for name in ("pdflatex", "tectonic", "lualatex") if shutil.which(name)), None)


def fill(folder: Path, backbone: str, first: int = 0) -> RunStore:
    """Two categories, two estimators."""
    store = RunStore(folder)
    random = np.random.default_rng(first)
    for number in range(4):
        names = {"category": ("nut_1", "50% bolt & co")[number % 2], "backbone": backbone}
        scores = {"labels": np.arange(20) % 2, "scores": random.random((2, 20), dtype=np.float32)}
        store.write(document(first + number, **names, estimator=("full", "oas")[number // 2]), scores)
    return store


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("store") / "runs", "wide_resnet50_2").folder


def test_the_suffix_decides(runs: Path, tmp_path: Path) -> None:
    for suffix in ("csv", "json", "md", "tex", "html", "parquet", "txt"):
        run("leaderboard", runs, "-o", tmp_path / f"board.{suffix}")
    frame = pd.read_csv(tmp_path / "board.csv")
    assert len(frame) == 6
    assert len(json.loads((tmp_path / "board.json").read_text())) == 6
    assert list(pd.read_parquet(tmp_path / "board.parquet").columns) == list(frame.columns)
    assert (tmp_path / "board.tex").read_text().count(r"\begin{tabular}") == 2
    assert (tmp_path / "board.html").read_text().startswith("<!doctype html>")
    assert "best of its category" in (tmp_path / "board.txt").read_text()
    header = (tmp_path / "board.md").read_text().splitlines()[2]
    assert header.startswith("| category | estimator | image AUROC |")
    assert header.count("|") < 15


def test_what_was_written_is_told(runs: Path, tmp_path: Path) -> None:
    assert f"csv in {tmp_path / 'b.csv'}\n" in run("leaderboard", runs, "-o", tmp_path / "b.csv")
    assert f"table in {tmp_path / 'c'}; a suffix gives another format" in run(
        "compare", runs, runs, "-o", tmp_path / "c"
    )


def test_a_format_that_was_asked_for_wins(runs: Path, tmp_path: Path) -> None:
    run("leaderboard", runs, "--format", "json", "-o", tmp_path / "board.txt")
    assert len(json.loads((tmp_path / "board.txt").read_text())) == 6
    output = run("leaderboard", runs, "-o", tmp_path / "board.xls", code=2)
    assert "ends in .xls: expected .txt, .csv" in output


def test_latex_has_categories_and_methods_and_the_best_bold(runs: Path) -> None:
    text = run("leaderboard", runs, "--format", "latex", "--sort", "image_auroc")
    lines = text.splitlines()
    assert text.count(r"\begin{tabular}{lrr}") == 1
    assert r"category & oas & full \\" in lines or r"category & full & oas \\" in lines
    rows = {line.split(" & ")[0]: line for line in lines if (line.endswith(r"\\") and "$" in line) or "nut" in line}
    assert r"\textbf{0.925$\pm$.007}" in rows[r"nut\_1"]
    assert r"50\% bolt \& co" in text
    assert text.index(r"\midrule") < text.index("mean &")


@pytest.mark.skipif(LATEX is None, reason="no LaTeX compiler is installed")
def test_latex_compiles(runs: Path, tmp_path: Path) -> None:
    tables = run("leaderboard", runs, "--format", "latex")
    start, end = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n", "\\end{document}\n"
    (tmp_path / "paper.tex").write_text(start + tables + end)
    subprocess.run([str(LATEX), "paper.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_tables_are_escaped() -> None:
    table = TextTable(["a|b", "x"], [["<b> & 1|2", "5 %"]], "T_1", bold={(0, 0)}, numbers={1}, notes=["a note"])
    assert to_markdown([table]).decode().splitlines()[2:5] == [
        r"| a\|b | x |",
        "| --- | ---: |",
        r"| **<b> & 1\|2** | 5 % |",
    ]
    assert r"\textbf{$<$b$>$ \& 1|2} & 5 \% \\" in to_latex([table]).decode()
    assert "<strong>&lt;b&gt; &amp; 1|2</strong>" in to_html([table]).decode()


def test_a_comparison_in_every_format(runs: Path, tmp_path: Path) -> None:
    other = fill(tmp_path / "other", "resnet18", first=50).folder
    for suffix in ("csv", "json", "md", "tex", "html", "parquet", "txt"):
        run("compare", runs, other, "-o", tmp_path / f"c.{suffix}")
    text = (tmp_path / "c.md").read_text()
    assert text.startswith("backbone: A wide_resnet50_2; B resnet18")
    assert "| category | run | A | B | B − A |" in text
    assert r"B $-$ A" in (tmp_path / "c.tex").read_text()
    assert "B − A" in (tmp_path / "c.txt").read_text()
    assert "backbone: A" in run("compare", runs, other)


def test_a_check_for_the_summary_of_a_job(runs: Path, tmp_path: Path) -> None:
    baseline, worse = tmp_path / "baseline.json", tmp_path / "worse"
    environment = {"calibration_seconds": 0.1, "threads": 1, "jobs": 1, "processor_share": 1.0, "gpu": None}
    for folder, drop in ((tmp_path / "good", 0.0), (worse, 0.4)):
        for number in range(2):
            run_document = document(number, category="nut", backbone="builtin", estimator="full", seed=number)
            run_document["environment"] = environment
            run_document["folds"] = [
                {name: value - drop for name, value in fold.items()} for fold in run_document["folds"]
            ]
            scores = {"labels": np.arange(20) % 2, "scores": np.tile(np.arange(20, dtype=np.float32), (2, 1))}
            RunStore(folder).write(run_document, scores)
    run("check", tmp_path / "good", "--baseline", baseline, "--update")
    green = run("check", tmp_path / "good", "--baseline", baseline, "--format", "md")
    assert green.startswith("no regression in ")
    red = run("check", worse, "--baseline", baseline, "--format", "md", code=1)
    assert "| where | what | baseline | now | change | why |" in red
    run("check", worse, "--baseline", baseline, "-o", tmp_path / "check.json", code=1)
    told = json.loads((tmp_path / "check.json").read_text())
    assert told["regressions"][0]["what"]
    assert told["compared"]
