"""new-plugin writes packages that install and pass their own tests, or writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from padim_zoo import InputError
from padim_zoo.cli.main import main
from padim_zoo.scaffold.package import KINDS, new_plugin

ROOT = Path(__file__).resolve().parents[2]


def test_plugins_of_all_kinds_install_and_pass_their_tests(tmp_path: Path) -> None:
    names = {kind: f"my-{kind}" for kind in KINDS} | {"backbone": "my-2nd-stem"}
    for kind, name in names.items():
        result = CliRunner().invoke(main, ["new-plugin", name, "--kind", kind, "--output", str(tmp_path / "made")])
        assert result.exit_code == 0, result.output
        assert f"padim-zoo-{name}" in result.output
    folders = sorted((tmp_path / "made").iterdir())
    assert [folder.name for folder in folders] == sorted(f"padim-zoo-{name}" for name in names.values())
    style = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select=E,F,I,UP,B", "--line-length=120", *folders],
        capture_output=True,
        text=True,
    )
    assert style.returncode == 0 or "No module named ruff" in style.stderr, style.stdout
    # By pip, but without a network: setuptools is there, because torch needs it.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    installed = tmp_path / "installed"
    run("pip", "install", *options, "--target", installed, *folders, where=tmp_path, path=ROOT)
    output = run("pytest", "-p", "no:cacheprovider", *folders, where=tmp_path, path=f"{installed}{os.pathsep}{ROOT}")
    assert "passed" in output
    assert "skipped" not in output


def run(module: str, *arguments: object, where: Path, path: object) -> str:
    """The output of a module in a process of its own, in a folder that holds no plugin."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("My_Stem", "backbone", "'My_Stem' cannot name a plugin: expected lower-case letters and digits"),
        ("", "backbone", "'' cannot name a plugin"),
        ("../stem", "backbone", "'../stem' cannot name a plugin"),
        ("2stem", "backbone", "cannot name a plugin"),
        ("stem\n", "backbone", "cannot name a plugin"),
        ("stem", "metric", "unknown kind 'metric': expected one of backbone, estimator, detector, dataset"),
        ("resnet18", "backbone", "the backbone resnet18 is there already, of torchvision: choose another name"),
        ("padim-zoo-padim", "detector", "the detector padim is there already, of padim_zoo"),
        ("full", "estimator", "the estimator full is there already, of padim_zoo"),
    ],
)
def test_bad_names_are_refused(name: str, kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        new_plugin(name, kind, tmp_path)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for number, make in enumerate((Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere"))):
        target = tmp_path / f"padim-zoo-stem{number}"
        make(target)
        result = CliRunner().invoke(main, ["new-plugin", f"stem{number}", "--kind", "dataset", "-o", str(tmp_path)])
        assert result.exit_code == 2
        assert "exists already: choose another name or --output, or remove it" in result.output
    assert len(list(tmp_path.iterdir())) == 3


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(InputError, match=r"cannot write .*padim-zoo-stem: No space left on device"):
        new_plugin("stem", "detector", tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*Not a directory"):
        new_plugin("stem", "detector", tmp_path / "file")


def test_words_of_python_make_no_trouble(tmp_path: Path) -> None:
    module = new_plugin("class", "dataset", tmp_path) / "padim_zoo_class.py"
    compile(module.read_text(encoding="utf-8"), module.name, "exec")
    assert "def class_(" in module.read_text(encoding="utf-8")


def test_names_of_what_a_module_uses_are_not_taken(tmp_path: Path) -> None:
    module = new_plugin("prediction", "detector", tmp_path) / "padim_zoo_prediction.py"
    assert "class Prediction_(BackboneDetector, Prediction_Config):" in module.read_text(encoding="utf-8")
    setup = (tmp_path / "padim-zoo-prediction" / "setup.cfg").read_text(encoding="utf-8")
    assert "prediction = padim_zoo_prediction:Prediction_\n" in setup
