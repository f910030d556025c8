"""A disk that fails, or a signal, at a call that writes below a folder: in forks of a process with disk.c in it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
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


def preload(library: Path) -> None:
    """Have disk.c loaded into programs that this one runs, where there is a compiler for it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return
    command = [compiler, "-O2", "-fPIC", "-shared", "-o", str(library), str(SOURCE), "-ldl"]
    if subprocess.run(command, check=False).returncode == 0:
        os.environ["LD_PRELOAD"] = f"{library} {os.environ.get('LD_PRELOAD', '')}".strip()


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
    """Work on a folder in which one call, or it and all later ones, end with an error; a negative one is a signal."""

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
    # Of a disk that fails for good, a temporary file can be removed all the same.
    return None if are_whole(before, folder) and not hidden(folder) else "half written"


def harm_of_signal(outcome: Outcome, number: int, before: dict[Path, bytes], folder: Path) -> str | None:
    """What a command did wrong that a signal has ended: a row of the table, or None."""
    if outcome.hung:
        return "hang"
    killed = number == signal.SIGKILL
    if outcome.code != (None if killed else 128 + number):
        return "traceback"
    return None if are_whole(before, folder) and (killed or not hidden(folder)) else "half written"


def harm_of_rerun(outcome: Outcome, folder: Path) -> str | None:
    """What a command did wrong after one that was killed: a row of the table, or None."""
    if outcome.verdict not in ("accepted", "refused"):
        return outcome.verdict
    return "half written" if hidden(folder) else None


def are_whole(before: dict[Path, bytes], folder: Path) -> bool:
    """Whether every file below a folder is as it was, or a whole new one."""
    after = {path: content for path, content in contents(folder).items() if path not in hidden(folder)}
    return set(before) <= set(after) and all(
        before.get(path) == content or is_whole(path) for path, content in after.items()
    )


def hidden(folder: Path) -> set[Path]:
    """Drafts, claims and other things that no command leaves, and all below them."""
    return {path for path in folder.rglob("*") if any(part[0] == "." for part in path.relative_to(folder).parts)}


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
        elif path.suffix == ".jsonl":
            return all(json.loads(line) for line in path.read_text().splitlines())
        elif path.suffix == ".html":
            return path.read_text().rstrip().endswith("</html>")
        else:
            return path.stat().st_size > 0 or path.name == "py.typed"
    except Exception:
        return False
    return True
