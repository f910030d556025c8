"""``padim-zoo completion``: the script in a real shell, and what it offers, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from padim_zoo.cli.main import main
from padim_zoo.metrics import METRICS

ASK = """
import json, os, sys
from padim_zoo.cli.main import main
try:
    main(prog_name="padim-zoo")
except SystemExit:
    print("torch" in sys.modules, file=sys.stderr)
"""


def offered(*words: str) -> list[str]:
    """What click offers for the last word, asked as the script asks."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "_PADIM_ZOO_COMPLETE": "bash_complete"}
    environment |= {"COMP_WORDS": " ".join(("padim-zoo", *words)), "COMP_CWORD": str(len(words))}
    result = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True, env=environment)
    assert result.stderr.strip() == "False", "torch was imported"
    return result.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("leader",), ["plain,leaderboard"]),
        (("fit", "--backbone", "wide"), ["plain,wide_resnet101_2", "plain,wide_resnet50_2"]),
        (("bench", "--backbones", "builtin,scat"), ["plain,builtin,scattering"]),
        (("bench", "--estimators", "led"), ["plain,ledoit-wolf"]),
        (("fit", "--detector", "patch"), ["plain,patchcore"]),
        (("bench", "--dataset", "mvtec_"), ["plain,mvtec_ad_2", "plain,mvtec_loco"]),
        (("fit", "--backbone", "tim"), ["plain,timm/"]),
        (("list", "detectors", "sp"), ["plain,spade"]),
        (("plot", "--metric", ""), [f"plain,{name}" for name in METRICS]),
        (("fit", "--roi", "mas"), ["file,mas"]),
        (("fit", "some"), ["file,some"]),
        (("predict", "some"), ["file,some"]),
    ],
)
def test_names_and_files_are_offered(words: tuple[str, ...], expected: list[str]) -> None:
    assert offered(*words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_PADIM_ZOO_COMPLETE={shell}_complete" in result.output


def test_fish_keeps_the_commas_of_a_list() -> None:
    script = CliRunner().invoke(main, ["completion", "fish"]).output
    assert 'string split --max 1 ","' in script
    assert 'string split ","' not in script


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        (
            "bash",
            """eval "$(padim-zoo completion bash)"
            COMP_WORDS=(padim-zoo bench --estimators full,led) COMP_CWORD=3
            _padim_zoo_completion padim-zoo
            echo "${COMPREPLY[@]}" """,
        ),
        ("fish", 'padim-zoo completion fish | source; complete -C "padim-zoo bench --estimators full,led"'),
    ],
)
def test_the_script_completes_in_the_shell(tmp_path: Path, shell: str, script: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    program = tmp_path / "padim-zoo"
    program.write_text(f"#!{sys.executable}\nfrom padim_zoo.cli.main import main\nmain(prog_name='padim-zoo')\n")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PATH": path}
    result = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.split() == ["full,ledoit-wolf"], result.stderr
