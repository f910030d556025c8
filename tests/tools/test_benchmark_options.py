"""Scripts under ``benchmarks/`` refuse numbers that make no sense in one line, before anything is drawn or fitted."""

from __future__ import annotations

import sys
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from tests.benchmark_scripts import load

POSITIVE = {
    "busy_neighbor": ["--size", "--seconds"],
    "caches": ["--images", "--side"],
    "coreset": ["--images", "--patches", "--share", "--steps"],
    "default_bench --other .": ["--rounds", "--limit"],
    "drawn_parts poses": ["--images", "--seeds"],
    "drawn_parts write new": ["--light", "--side", "--train", "--good", "--defects"],
    "export_latency": ["--n-components", "--train", "--batch-sizes", "--seconds"],
    "fit_bound": ["--size", "--images", "--rounds"],
    "local_memory": ["--images", "--grid", "--channels", "--share", "--batch", "--repeats"],
    "registration": ["--size", "--photo", "--images", "--repeats"],
    "runtimes": ["--batch-sizes", "--size", "--train", "--seconds", "--weights"],
    "turned_parts old new": ["--side", "--train", "--test"],
    "dirty": ["--draws", "--size"],
    "fit_memory": ["--images", "--size", "--memory", "--n-components"],
    "large_images": ["--images", "--folds", "--train"],
    "promises --data .": ["--splits", "--share", "--resize"],
    "chaos": ["--kills", "--minutes", "--categories"],
    "faults": ["--cases", "--minutes"],
    "cluster_memory": ["--images"],
    "scaling": ["--tasks", "--pairs"],
}
"""Numbers above 0, by script and what it needs beside them."""
NOT_NEGATIVE = {
    "drawn_parts write new": ["--seed"],
    "turned_parts old new": ["--degrees", "--shift", "--seed"],
    "promises --data .": ["--most", "--seed"],
    "chaos": ["--seed"],
    "faults": ["--seed"],
}
CASES = [
    *((script, option, value) for script, names in POSITIVE.items() for option in names for value in ("0", "-1", "x")),
    *((script, option, value) for script, names in NOT_NEGATIVE.items() for option in names for value in ("-1", "x")),
]


def script(name: str) -> ModuleType:
    if name in ("chaos", "cluster_memory", "scaling"):
        pytest.importorskip("distributed")
    return load(name)


@pytest.mark.parametrize(("command", "option", "value"), CASES)
def test_a_script_refuses_nonsense(
    command: str, option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *needed = command.split()
    module, words = script(name), [*needed, f"{option}={value}"]
    if isinstance(module.main, click.Command):
        result = CliRunner().invoke(module.main, words)
        assert result.exit_code == 2, result.output
        assert f"Invalid value for {option}" in result.output.replace("'", "")
        return
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}.py")
    assert option in line
    assert value in line


def test_a_line_is_not_made_of_one_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = script("cluster_memory")
    monkeypatch.setattr(sys, "argv", ["cluster_memory.py", "--images", "5", "5"])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert "--images has one number" in capsys.readouterr().err


def test_what_makes_sense_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    options = script("script_options")
    assert options.several(options.whole())("1,32") == [1, 32]
    assert (options.whole(0)("0"), options.above(0, 1)("1"), options.within(0, 180)("0")) == (0, 1.0, 0.0)
    assert options.by_name("resnet18=a=b") == ("resnet18", "a=b")
