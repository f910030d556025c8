"""Record the golden results that ``tests/golden`` compares with.

    python tools/record_golden.py                           write tests/golden/golden.json
    python tools/record_golden.py --full FILE.safetensors   keep all maps and digits, too, for oneself

They are to show that a change of the code moves no score: record them before it, with the ``padim_zoo`` that is
imported, and again only where scores are meant to change. A commit that does so says why.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"


def load_matrix() -> ModuleType:
    """The module of the tests that says what is recorded."""
    spec = importlib.util.spec_from_file_location("golden_matrix", GOLDEN / "golden_matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["golden_matrix"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commit_in_use() -> str:
    """The commit of the package that is imported, with ``+`` where files of it have changed since."""
    import padim_zoo

    package = Path(padim_zoo.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", package, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    return git("rev-parse", "--short=7", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")


def main() -> None:
    """Run the matrix and write what it gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=GOLDEN / "golden.json")
    parser.add_argument("--full", type=Path, help="a safetensors file for whole arrays")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        os.environ["PADIM_ZOO_CACHE"] = f"{folder}/cache"
        os.environ["PADIM_ZOO_PRECISION"] = "float32"
        import torch

        matrix = load_matrix()
        world = matrix.World(Path(folder))
        runs: dict[str, Any] = {}
        full: dict[str, np.ndarray] = {}
        for name, run in matrix.RUNS.items():
            torch.manual_seed(0)
            outcome = run(world)
            runs[name] = matrix.recorded(outcome)
            full |= {f"{name}/{key}": np.asarray(value) for key, value in outcome.items() if value is not None}
        faults = {name: matrix.exit_code_of(world, fault) for name, fault in matrix.FAULTS.items()}

    head = {"commit": commit_in_use(), "torch": torch.__version__, "numpy": np.__version__}
    lines = [f' "recorded": {json.dumps(head)}']
    for part, entries in (("runs", runs), ("faults", faults)):
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        lines.append(f' "{part}": {{\n{rows}\n }}')
    arguments.output.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    if arguments.full is not None:
        save_file(full, arguments.full)
    print(f"{len(runs)} runs and {len(faults)} faults at {head['commit']} in {arguments.output}")


if __name__ == "__main__":
    main()
