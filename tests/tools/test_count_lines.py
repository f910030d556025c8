"""Lines of code are told from comments and docstrings, and words are counted in both."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

MODULE = '''\
"""The sigma of a module docstring

has several lines.
"""

import os  # sigma in a comment


class Blur:
    """Blur by sigma."""

    sigma = 4.0
    """Below an attribute: code."""

    def apply(
        self,
    ) -> str:
        "Short."
        # nothing but a comment

        return """sigma
        an inner line
        ends"""


def name(x: int, sigma_max: int) -> str: "ä: sigma"; return f"""{
    x
}"""
'''
CODE = [6, 9, 12, 13, 15, 16, 17, 21, 23, 26, 28]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import count_lines

    return count_lines


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "blur"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "inner" / "blur.py").write_text(MODULE, encoding="utf-8")
    (folder / "inner" / "page.js").write_text("sigma = 1\n", encoding="utf-8")
    return folder


def test_lines_of_code_are_those_on_which_a_token_starts_or_ends(tool: ModuleType) -> None:
    assert sorted(tool.read_source(MODULE).lines) == CODE


def test_comments_and_docstrings_are_blanked_out_in_place(tool: ModuleType) -> None:
    source = tool.read_source(MODULE)
    assert [len(row) for row in source.code.splitlines()] == [len(row) for row in MODULE.splitlines()]
    assert [number for number, row in enumerate(source.code.splitlines(), 1) if "sigma" in row] == [12, 21, 26]
    assert "Below an attribute" in source.code
    assert "return f" in source.code
    assert "ä" not in source.code


def test_counts_of_a_package_as_json(tool: ModuleType, package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([str(package), "--json", "--word", "sigma"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "lines": len(CODE),
        "files": {"blur/__init__.py": 0, "blur/inner/blur.py": len(CODE)},
        "packages": {"blur": {"files": 2, "lines": len(CODE)}, "blur/inner": {"files": 1, "lines": len(CODE)}},
        "words": {"sigma": {"code": {"lines": 2, "files": 1}, "total": {"lines": 6, "files": 1}}},
    }


def test_counts_of_a_package_as_tables(tool: ModuleType, package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([str(package), "--word", "sigma"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [str(len(CODE)), "blur/inner/blur.py"] in rows
    assert [str(len(CODE)), "2", "blur"] in rows
    assert rows[-1] == ["2", "1", "6", "1", "sigma"]


def test_what_cannot_be_counted_is_told_in_one_line(
    tool: ModuleType, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (package / "broken.py").write_text("def", encoding="utf-8")
    for folder, reason in ((package, "blur/broken.py is no Python"), (package / "absent", "is no folder")):
        with pytest.raises(SystemExit, match="2"):
            tool.main([str(folder)])
        assert reason in capsys.readouterr().err.splitlines()[-1]
