"""The program, as a user calls it, in this process."""

from __future__ import annotations

from click.testing import CliRunner

from padim_zoo.cli.main import main


def run(*arguments: object, code: int = 0) -> str:
    """What a command prints, to either stream; it has to end with this exit code."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output
