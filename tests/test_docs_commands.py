"""The commands of docs/detectors.md run as shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from padim_zoo.cli.main import main
from padim_zoo.data.synthetic import generate

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("page", ["detectors.md"])
def test_commands_run_as_shown(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generate(tmp_path / "images", categories=["gear"], train=12, good=2, defects_per_kind=1, size=64)
    run = 0
    for block in re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "padim-zoo"
            small = ["--resize", "64", "--crop", "none"] if arguments[0] == "fit" else []
            result = CliRunner().invoke(main, arguments + small)
            assert result.exit_code == 0, f"{line}\n{result.output}"
            run += 1
    assert run == 5
    assert Path("predictions", "scores.csv").is_file()
