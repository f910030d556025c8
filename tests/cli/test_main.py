"""What every command has in common: lazy import, one-line mistakes, exit codes."""

from __future__ import annotations

import warnings

import click
import pytest
import torch  # noqa: F401  by which memory that it was refused is told
from click.testing import CliRunner

from padim_zoo.cli.main import _OUT_OF_MEMORY, COMMANDS, main
from padim_zoo.core.errors import InputError
from padim_zoo.registry import PluginWarning


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """A command whose error can be chosen."""
    chosen: dict[str, BaseException] = {}

    @click.command()
    def fail() -> None:
        raise chosen["error"]

    monkeypatch.setattr("padim_zoo.cli.main.fail", fail, raising=False)
    monkeypatch.setitem(COMMANDS, "fail", ("padim_zoo.cli.main:fail", "Fail."))
    return chosen


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert name in CliRunner().invoke(main, ["--help"]).output


def test_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["fitt"])
    assert result.exit_code == 2
    assert "fitt" in result.output


@pytest.mark.parametrize(
    ("error", "code", "output"),
    [
        (InputError("found a, expected b"), 2, "Error: found a, expected b\n"),
        (PermissionError(13, "Permission denied", "x.csv"), 2, "Error: x.csv: Permission denied\n"),
        (OSError(28, "No space left on device"), 3, "Error: No space left on device\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (MemoryError(), 2, f"Error: {_OUT_OF_MEMORY}\n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, f"Error: {_OUT_OF_MEMORY}\n"),
    ],
)
def test_errors_and_exit_codes(failing: dict[str, BaseException], error: BaseException, code: int, output: str) -> None:
    failing["error"] = error
    result = CliRunner().invoke(main, ["fail"])
    assert (result.exit_code, result.output) == (code, output)


def test_closed_pipe_ends_quietly(failing: dict[str, BaseException]) -> None:
    failing["error"] = BrokenPipeError(32, "Broken pipe")
    result = CliRunner().invoke(main, ["fail"])
    assert (result.exit_code, result.output) == (1, "")


def test_a_bug_is_not_hidden(failing: dict[str, BaseException]) -> None:
    failing["error"] = ZeroDivisionError()
    assert isinstance(CliRunner().invoke(main, ["fail"]).exception, ZeroDivisionError)


@pytest.mark.filterwarnings("always")
def test_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def warn() -> None:
        warnings.warn("the plugin x\nfailed", PluginWarning, stacklevel=1)

    monkeypatch.setattr("padim_zoo.cli.main.warn", warn, raising=False)
    monkeypatch.setitem(COMMANDS, "warn", ("padim_zoo.cli.main:warn", "Warn."))
    before = warnings.showwarning
    assert CliRunner().invoke(main, ["warn"]).output == "Warning: the plugin x failed\n"
    assert warnings.showwarning is before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fit", "--falsealarm", "0.1"], "No such option '--falsealarm'. Did you mean '--fpr'?"),
        (["list", "datsets"], "'datsets' is unknown: did you mean datasets"),
        (["export", "m.safetensors", "--format", "onx"], "'onx' is unknown: did you mean onnx?"),
        (["plot", "runs", "--kind", "rok"], "'rok' is unknown: did you mean roc"),
        (["bench", "--backbnes", "x"], "'--backbones'"),
        (["predict", "m", "images", "--regions"], "'--regions' requires an argument: --regions FILE"),
        (["export", __file__, "-o", "m"], "'--format'. Choose from: onnx, openvino, torch"),
    ],
)
def test_mistakes_get_a_suggestion(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert told in result.output
