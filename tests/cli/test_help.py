"""Groups of commands, suggestions, options in both numbers, and tables that break no word."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from padim_zoo.bench.settings import SETTINGS
from padim_zoo.cli.main import COMMANDS, GROUPS, main
from padim_zoo.cli.table import cell, column_widths, table_of


def output_of(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_every_command_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(COMMANDS)
    text = output_of("--help")
    assert all(f"{title}:" in text for title in GROUPS)
    assert text.index("  bench ") < text.index("  leaderboard ") < text.index("  cache ")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(("leaderbord",), "leaderboard"), (("Bench",), "bench"), (("cache", "inf"), "info"), (("data", "chek"), "check")],
)
def test_unknown_commands_get_a_suggestion(arguments: tuple[str, ...], meant: str) -> None:
    assert f"No such command {arguments[-1]!r}: did you mean {meant}" in output_of(*arguments, code=2)


@pytest.mark.parametrize(("command", "option"), [("fit", "--backbones"), ("bench", "--backbone"), ("bench", "--seed")])
def test_singular_and_plural_are_one_option(command: str, option: str) -> None:
    output = output_of(command, option, "nope", "-o", "x", code=2)
    assert "No such option" not in output
    shown = [line.split()[0] for line in output_of(command, "--help").splitlines() if line.startswith("  --")]
    assert option not in shown


def test_both_numbers_give_the_same_value() -> None:
    for command in ("bench", "fit", "finetune"):
        made = main.get_command(click.Context(main), command)
        assert made is not None
        for option in made.params:
            name = getattr(option, "hidden_name", "")
            if name:
                assert name in option.opts
                assert str(option.name) == option.setting.name_in(command)  # type: ignore[attr-defined]


def test_the_seed_says_what_it_draws() -> None:
    for drawn in ("channels", "folds", "coresets"):
        assert drawn in SETTINGS["seeds"].help


def test_every_output_has_a_short_option() -> None:
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        for option in command.params:
            if "--output" in option.opts:
                assert "-o" in option.opts, name


RECORDS = [
    {"name": "wide_resnet50_2", "layers": ["layer1", "layer2"], "summary": "a network that is wide", "n": 550},
    {"name": "builtin", "layers": ["stage1"], "summary": "small; needs no download at all", "n": 64},
]


@pytest.mark.parametrize("width", range(40, 100))
def test_tables_break_no_word(width: int) -> None:
    from rich.console import Console

    widths = column_widths(RECORDS, width)
    words = {word for record in RECORDS for value in record.values() for word in cell(value).split()}
    if widths is None:
        longest = sum(
            max(len(word) for word in cell(record[key]).split()) for key in RECORDS[0] for record in RECORDS[:1]
        )
        assert longest > width - 12
        return
    with (console := Console(width=width)).capture() as captured:
        console.print(table_of(RECORDS, widths))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert words <= set(captured.get().split())
