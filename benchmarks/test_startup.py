"""Time until Python has imported padim-zoo, and until its help is shown, beside a Python that imports click."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import Beside

COMMANDS = {
    "import": "import padim_zoo",
    "help": "from padim_zoo.cli.main import main; main(['--help'])",
    "fit_help": "from padim_zoo.cli.main import main; main(['fit', '--help'])",
}


def run(code: str) -> bytes:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_startup(beside: Beside, command: str) -> None:
    shown = beside(lambda: run("import click"), lambda: run(COMMANDS[command]), "import click")
    assert bool(shown) == command.endswith("help")
