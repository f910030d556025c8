"""Categories that other processes draw, while this one does something else, such as to import torch."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from padim_zoo.core.cpu import usable_processors
from padim_zoo.core.parent_process import end_with_parent

_MOST_PROCESSES = 4
_CLEANING_SECONDS = 30.0
"""For so long a process may remove its drafts, on a busy machine too."""
_KEEP_FREED_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
"""For glibc. Otherwise the system clears the pages of each array of a picture anew: a seventh of the time."""

_drawing: dict[Path, subprocess.Popen[str]] = {}
"""By the folder of a category, the process that draws it."""


def draw_ahead(root: Path, categories: Sequence[str], parameters: Mapping[str, Any]) -> None:
    """Begin to draw the categories that are not there yet; the processes end with this one.

    Where there is no Python to start, nothing is drawn ahead.

    Parameters
    ----------
    root : Path
    categories : sequence of str
    parameters : mapping
        As :func:`~padim_zoo.data.synthetic.generate` takes them, in JSON's types.
    """
    if not sys.executable or hasattr(sys, "frozen"):  # within another program, which it would start again
        return
    root = root.absolute()
    absent = [name for name in categories if root / name not in _drawing and not (root / name).is_dir()]
    count = min(usable_processors(), _MOST_PROCESSES, len(absent))
    # There and back: neighbors in the alphabet take about as long.
    turns = [*range(count), *reversed(range(count))]
    for process in range(count):
        own = [name for number, name in enumerate(absent) if turns[number % len(turns)] == process]
        with suppress(OSError):  # then this process draws
            _drawing.update(dict.fromkeys((root / name for name in own), _start(root, own, parameters)))


def _start(root: Path, categories: Sequence[str], parameters: Mapping[str, Any]) -> subprocess.Popen[str]:
    # What this process imports, it imports too: relative entries lead elsewhere from there.
    folders = [os.path.abspath(folder) for folder in sys.path if folder]
    package = str(Path(__file__).parents[3])
    folders = folders if package in folders else [package, *folders]
    code = f"import sys; sys.path[:] = {folders!r}; from {__name__} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root), json.dumps(parameters), *categories],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=os.sep,  # of which nothing is imported
        env={**os.environ, **_KEEP_FREED_MEMORY},
    )


def wait_for(folder: Path) -> None:
    """Wait for the process that draws the folder of a category, if there is one.

    If that fails, who draws it next tells why.
    """
    folder = folder.absolute()
    drawing = _drawing.get(folder)
    if drawing is None:
        return
    assert drawing.stdout is not None
    while not folder.is_dir() and drawing.stdout.readline():
        pass
    _drawing.pop(folder, None)
    if drawing not in _drawing.values():
        drawing.communicate()


@atexit.register
def _end_all() -> None:
    """End what nobody waited for, drafts removed: this process leaves none behind that still writes."""
    drawing = set(_drawing.values())
    for process in drawing:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
    for process in drawing:
        assert process.stdout is not None
        with suppress(subprocess.TimeoutExpired):  # it ends itself by then
            process.wait(2 * _CLEANING_SECONDS)
        process.stdout.close()
    _drawing.clear()


def main() -> None:
    """Draw what :func:`draw_ahead` asks for, and tell each category that is done."""
    from padim_zoo.data.synthetic.dataset import generate

    root, parameters, *categories = sys.argv[1:]
    end_with_parent(sys.stdin.read, cleaning_seconds=_CLEANING_SECONDS)
    for category in categories:
        generate(root, categories=[category], **json.loads(parameters))
        print(category, flush=True)
