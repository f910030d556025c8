"""Scripts under ``benchmarks/`` refuse numbers that make no sense in one line, before anything is drawn or fitted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

SCRIPTS = Path(__file__).parents[2] / "benchmarks"

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


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    if name in ("chaos", "cluster_memory", "scaling"):
        pytest.importorskip("distributed")
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("script", "option", "value"), CASES)
def test_a_script_refuses_nonsense(
    script: str, option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *needed = script.split()
    module, words = load(name, monkeypatch), [*needed, f"{option}={value}"]
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
    module = load("cluster_memory", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["cluster_memory.py", "--images", "5", "5"])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert "--images has one number" in capsys.readouterr().err


def test_what_makes_sense_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    options = load("script_options", monkeypatch)
    assert options.several(options.whole())("1,32") == [1, 32]
    assert (options.whole(0)("0"), options.above(0, 1)("1"), options.within(0, 180)("0")) == (0, 1.0, 0.0)
    assert options.by_name("resnet18=a=b") == ("resnet18", "a=b")
