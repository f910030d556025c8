"""``import padim_zoo`` and ``padim-zoo --help`` cost next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "timm", "pandas", "numpy", "scipy", "sklearn", "rich", "PIL", "yaml"}

LOADED = "; import sys; print(','.join({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"


def loaded_by(code: str) -> tuple[set[str], str]:
    result = subprocess.run([sys.executable, "-c", code + LOADED], capture_output=True, text=True, check=True)
    return set(result.stderr.strip().split(",")), result.stdout


def test_import_of_the_package_is_light() -> None:
    modules, _ = loaded_by("import padim_zoo; dir(padim_zoo)")
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

    for name in padim_zoo.__all__:
        assert getattr(padim_zoo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'PaDiN'"):
        _ = padim_zoo.PaDiN


@pytest.mark.parametrize("command", ["bench", "fit", "predict", "finetune", "export"])
def test_help_of_commands_is_light(command: str) -> None:
    code = f"from padim_zoo.cli.main import main; main([{command!r}, '--help'], standalone_mode=False)"
    modules, output = loaded_by(code)
    assert not modules & HEAVY
    assert "[default: " in output
