"""Time until padim-zoo is imported, its help is shown, and the first image is scored, each in a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Beside
from PIL import Image

from padim_zoo import PaDiM

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


def test_cold_predict(beside: Beside, tmp_path: Path) -> None:
    """One image by a saved model, beside a Python that imports torch: as a command in a line's script would."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(path)
    model = tmp_path / "model.safetensors"
    PaDiM(backbone="builtin").fit(paths).save(model)
    arguments = ["predict", str(model), str(paths[0]), "--threshold", "1e9"]
    code = f"from padim_zoo.cli.main import main; main({arguments})"
    assert b"0.png" in beside(lambda: run("import torch"), lambda: run(code), "import torch")
