"""A default of a setting is a literal in one file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from padim_zoo.bench.setting import Unset
from padim_zoo.bench.settings import SETTINGS

PACKAGE = Path(__file__).resolve().parents[2] / "padim_zoo"
HOMES = {"detectors/config.py", "bench/settings.py"}
"""Files in which a default may be a literal."""

OTHERS = {
    "backbones": {"weights"},  # the contract of a factory, which stands below the detectors
    "data": {"seed"},  # of the synthetic data set, and of what is drawn for a view
    "export": {"resize", "crop"},  # a module in the network
    "finetune": {"batch_size", "precision", "seed"},  # of a training
    "importers": {"sigma", "estimator"},  # what other programs do
    "metrics": {"seed"},  # of the bootstrap
    "testing": {"seed", "weights"},  # of what is drawn for a check
}
"""Parameters, by package, that share the name of a setting and are another thing."""


def literal_defaults(source: str) -> Iterator[tuple[str, object]]:
    """Parameters of functions and fields of classes that have a literal for default, but None."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            positional = [*node.args.posonlyargs, *node.args.args]
            pairs: list[tuple[ast.arg, ast.expr | None]] = []
            pairs += zip(reversed(positional), reversed(node.args.defaults), strict=False)
            pairs += [
                (name, value) for name, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value
            ]
            defaults = [(parameter.arg, value) for parameter, value in pairs]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            defaults = [(node.target.id, node.value)]
        else:
            continue
        for name, value in defaults:
            try:
                literal = ast.literal_eval(value)
            except ValueError:
                continue
            if literal is not None:
                yield name, literal


def with_defaults() -> set[str]:
    """What settings with a value for default are called, where one value is taken."""
    names = set()
    for setting in SETTINGS.values():
        values = [setting.default, *setting.defaults.values()]
        if setting.parameter and any(not isinstance(value, Unset) for value in values):
            names.add(setting.one)
    return names


def second_places(file: str, source: str) -> list[tuple[str, object]]:
    """The defaults of settings that a file repeats."""
    names = with_defaults() - OTHERS.get(file.partition("/")[0], set())
    return [(name, value) for name, value in literal_defaults(source) if name in names]


def second_options(source: str) -> set[str]:
    """Options written by hand that have the name of a setting's."""
    flags = {setting.option_in(command) for setting in SETTINGS.values() for command in setting.commands}
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    written = [call.args for call in calls if ast.unparse(call.func) == "click.option"]
    return {word.value for words in written for word in words if isinstance(word, ast.Constant)} & flags


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_repeats_a_default(path: Path) -> None:
    file = path.relative_to(PACKAGE).as_posix()
    if file not in HOMES:
        assert second_places(file, path.read_text(encoding="utf-8")) == []


OTHER_OPTIONS = {
    "combine.py": {"--weights"},  # of the members
    "data.py": {"--categories", "--seed"},  # of the synthetic data set
    "fit.py": {"--folds"},  # for the threshold alone
    "leaderboard.py": {"--corruptions"},  # shows what bench made of them
}
"""Options that share the name of a setting's and are another thing; all commands have an output of their own."""


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.name)
def test_no_command_writes_the_option_of_a_setting_by_hand(path: Path) -> None:
    others = OTHER_OPTIONS.get(path.name, set()) | {"--output"}
    assert second_options(path.read_text(encoding="utf-8")) - others == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(sigma: float = 4.0): ...", [("sigma", 4.0)]),
        ("def f(*, resize=(256, 256), other=1): ...", [("resize", (256, 256))]),
        ("class C:\n    batch_size: int = 32", [("batch_size", 32)]),
        ("def f(sigma=PaDiMConfig.sigma, crop=None): ...", []),
    ],
)
def test_the_rule_sees_a_second_place(source: str, expected: list[tuple[str, object]]) -> None:
    assert second_places("bench/made_up.py", source) == expected


def test_the_rule_sees_an_option_written_by_hand() -> None:
    assert second_options('@click.option("--sigma", default=4.0)\ndef f(): ...') == {"--sigma"}
