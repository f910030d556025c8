"""A disk that fails: a call that writes below a folder, in forks of a process that disk.c was loaded into."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import safe_open

from tests.faults.harness import Outcome

SOURCE = Path(__file__).with_name("disk.c")


def preloaded() -> bool:
    """Whether this process can let calls fail."""
    return hasattr(ctypes.CDLL(None), "disk_arm")


def run_preloaded(library: Path) -> None:
    """Run this program anew with disk.c loaded into it; return where no compiler is there."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if preloaded() or compiler is None or sys.platform != "linux":
        return
    subprocess.run([compiler, "-O2", "-fPIC", "-shared", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    os.environ["LD_PRELOAD"] = str(library)
    os.execv(sys.executable, [sys.executable, *sys.argv])


def counting(work: Callable[[], None], folder: Path, target: Path) -> Callable[[], None]:
    """Work that leaves in a file how many calls wrote below a folder."""
    library = ctypes.CDLL(None)

    def counted() -> None:
        library.disk_arm(str(folder).encode(), ctypes.c_long(0), 0, 0)
        try:
            work()
        finally:
            target.write_text(str(library.disk_seen()))

    return counted


def failing(work: Callable[[], None], folder: Path, call: int, error: int, stays: bool) -> Callable[[], None]:
    """Work on a folder in which one call, or it and all later ones, end with an error."""

    def armed() -> None:
        ctypes.CDLL(None).disk_arm(str(folder).encode(), ctypes.c_long(call), error, int(stays))
        work()

    return armed


def harm(outcome: Outcome, before: dict[Path, bytes], folder: Path) -> str | None:
    """What a command did wrong on such a disk: a row of the table, or None."""
    if outcome.verdict not in ("accepted", "refused"):
        return outcome.verdict
    if outcome.verdict == "refused" and outcome.code != 3:
        return "traceback"
    for path, content in contents(folder).items():
        changed = before.get(path) != content
        # Of a disk that fails for good, a temporary file can be removed all the same.
        if path.name.endswith(".tmp") or (changed and not is_whole(path)):
            return "half written"
    return "half written" if set(before) - set(contents(folder)) else None


def contents(folder: Path) -> dict[Path, bytes]:
    """The files below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_whole(path: Path) -> bool:
    """Whether a file can be read to its end, as far as its format tells."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    file.get_tensor(name)
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".npy":
            np.load(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".html":
            return path.read_text().rstrip().endswith("</html>")
        else:
            return path.stat().st_size > 0 or path.name == "py.typed"
    except Exception:
        return False
    return True
