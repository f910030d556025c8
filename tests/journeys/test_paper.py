"""The second journey: from a plugin to the LaTeX table of a paper, which compiles where a compiler is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from padim_zoo import registry
from padim_zoo.cli.main import main
from padim_zoo.data.synthetic import generate

LATEX = next((name for name in ("pdflatex", "tectonic", "lualatex") if shutil.which(name)), None)


def succeed(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_from_a_plugin_to_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("backbones", "detectors", "estimators", "datasets"):  # a plugin of this test is none of others
        names = getattr(registry, kind)
        names.names()  # which loads those of the package
        monkeypatch.setattr(names, "_entries", dict(names._entries))
    wrong = CliRunner().invoke(main, ["new-plugin", "stem-of-mine", "--kind", "backbon"])
    assert wrong.exit_code == 2
    assert "did you mean backbone?" in wrong.output
    told = succeed("new-plugin", "stem-of-mine", "--kind", "backbone", "-o", "my plugins")
    assert "pip install -e" in told
    plugin = next(path for path in Path("my plugins").rglob("*.py") if "@backbones.register" in path.read_text())
    generate("parts", categories=["fabric", "gear"], train=10, good=4, defects_per_kind=1, size=64)

    bench = ("bench", "--plugin", plugin, "--data-root", "parts", "--resize", "64", "--folds", 2, "--no-cache")
    bench += ("--backbones", "builtin,stem-of-mine", "--estimators", "diagonal", "-o", "runs", "--quiet")
    succeed(*bench)
    succeed(*bench)  # which does nothing again
    assert len(json.loads(succeed("leaderboard", "runs", "--format", "json"))) == 6  # two categories and their mean
    board = succeed("leaderboard", "runs", "--sort", "pixel_auroc")
    assert "stem-of-mine" in board

    succeed("leaderboard", "runs", "-o", "board.tex")
    table = Path("board.tex").read_text(encoding="utf-8")
    assert table.count(r"\begin{tabular}") == table.count(r"\end{tabular}") > 0
    assert "stem-of-mine" in table
    assert r"\textbf{" in table
    assert r"$\pm$" in table
    assert all(line.count("{") == line.count("}") for line in table.splitlines())
    if LATEX is None:
        return
    paper = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{table}\\end{{document}}\n"
    Path("paper.tex").write_text(paper, encoding="utf-8")
    subprocess.run([LATEX, "paper.tex"], check=True, capture_output=True)
