"""What the README shows works as shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from padim_zoo import registry
from padim_zoo.cli.main import main

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLE = "images/gear"
SMALLER = ["--size", "64", "--train", "19", "--good", "2", "--defects", "1"]  # as large as the example needs


def test_example_runs_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command and every piece of Python that deals with the example category."""
    monkeypatch.chdir(tmp_path)
    registry.estimators.names()
    monkeypatch.setattr(registry.estimators, "_entries", dict(registry.estimators._entries))
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    for language, code in blocks:  # files first: a plugin is shown before the command that names it, or after
        name = re.match(r"# (\w+\.py)\n", code)
        if language == "python" and name:
            Path(name[1]).write_text(code, encoding="utf-8")
    run = 0
    for language, code in blocks:
        if language == "sh" and (EXAMPLE in code or "--categories gear" in code):
            for line in code.splitlines():
                arguments = shlex.split(line)
                assert arguments.pop(0) == "padim-zoo"
                arguments += SMALLER if arguments[:2] == ["data", "synthetic"] else []
                result = CliRunner().invoke(main, arguments)
                assert result.exit_code == 0, f"{line}\n{result.output}"
                run += 1
        elif language == "python" and EXAMPLE in code:
            exec(code, {})
            run += 1
    assert run == 6
    assert Path("predictions", "scores.csv").is_file()
    assert Path("ridge.safetensors").is_file()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not (README.parent / link).exists()] == []


def test_every_command_line_parses() -> None:
    """No option is shown that a command does not have."""
    for language, code in BLOCK.findall(README.read_text(encoding="utf-8")):
        for line in code.splitlines() if language == "sh" else []:
            if line.startswith("padim-zoo "):
                _, name, *arguments = shlex.split(line)
                options = {argument for argument in arguments if argument.startswith("--")}
                usage = CliRunner().invoke(main, [name, *arguments[: name == "data"], "--help"]).output
                assert all(option in usage for option in options), line
