"""``import padim_zoo`` and ``padim-zoo --help`` cost next to nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = sorted(
    [
        *ROOT.glob("plugins/*/padim_zoo_*.py"),
        *ROOT.glob("plugins/*/padim_zoo_*/*.py"),
        *ROOT.glob("padim_zoo/scaffold/templates/*.py.in"),
    ]
)
"""What a plugin's author writes: our plugins, and the templates of new ones."""

HEAVY = {"torch", "torchvision", "timm", "pandas", "numpy", "scipy", "sklearn", "rich", "PIL", "yaml"}

LOADED = "; import sys; print(','.join({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"


def loaded_by(code: str) -> tuple[set[str], str]:
    result = subprocess.run([sys.executable, "-c", code + LOADED], capture_output=True, text=True, check=True)
    return set(result.stderr.strip().split(",")), result.stdout


@pytest.mark.parametrize("module", ["padim_zoo", "padim_zoo.plugin"])
def test_import_of_the_package_is_light(module: str) -> None:
    modules, _ = loaded_by(f"import {module}; dir({module})")
    assert not modules & HEAVY
    assert "click" not in modules


def test_defaults_of_detectors_are_read_without_torch() -> None:
    modules, output = loaded_by("from padim_zoo.detectors.config import PaDiMConfig; print(PaDiMConfig.sigma)")
    assert not modules & HEAVY
    assert output == "4.0\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_is_light(option: str) -> None:
    modules, output = loaded_by(f"from padim_zoo.cli.main import main; main([{option!r}], standalone_mode=False)")
    assert not modules & HEAVY
    assert "padim-zoo" in output or "COMMAND" in output


def test_every_public_name_is_there() -> None:
    import padim_zoo
    import padim_zoo.plugin

    for module in (padim_zoo, padim_zoo.plugin):
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'PaDiN'"):
            _ = module.PaDiN


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.name)
def test_plugins_import_public_modules_alone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    modules = set(re.findall(r"^\s*(?:from|import) (padim_zoo(?:\.[\w.]+)?)\b", text, re.MULTILINE))
    assert modules <= {"padim_zoo", "padim_zoo.plugin"}


@pytest.mark.parametrize("command", ["bench", "fit", "predict", "finetune", "export"])
def test_help_of_commands_is_light(command: str) -> None:
    code = f"from padim_zoo.cli.main import main; main([{command!r}, '--help'], standalone_mode=False)"
    modules, output = loaded_by(code)
    assert not modules & HEAVY
    assert "[default: " in output
