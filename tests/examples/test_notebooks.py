"""The notebooks of ``examples/`` run from start to end, and hold no output and no path of a machine."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import padim_zoo
from padim_zoo.cli.main import main

FOLDER = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells_of(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as Jupyter does, and return the value of its last expression."""
    value = None
    for part in re.split(r"(?m)^(!.*)$", source):
        if part.startswith("!"):
            program, *arguments = shlex.split(part[1:])
            assert program == "padim-zoo", part
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, f"{part}\n{result.output}"
            continue
        statements = ast.parse(part)
        last = statements.body.pop() if statements.body and isinstance(statements.body[-1], ast.Expr) else None
        exec(compile(statements, "cell", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return value


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["leaderboard", "photos"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown = []
    for cell in cells_of(path):
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        if "raises-exception" in cell["metadata"].get("tags", ()):
            with pytest.raises(padim_zoo.InputError) as error:
                run_cell(source, names)
            assert len(error.value._render_traceback_()) == 1
        else:
            shown.append(run_cell(source, names))
    # A figure has a page only where plots are drawn in the browser.
    pages = [page for value in shown if (page := getattr(value, "_repr_html_", lambda: None)()) is not None]
    assert len(pages) >= 2
    assert all("<" in page for page in pages)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_output(path: Path) -> None:
    assert path.stat().st_size < 10_000
    for cell in cells_of(path):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text(encoding="utf-8"))
