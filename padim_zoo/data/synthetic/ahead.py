"""Categories that other processes draw, while this one does something else, such as to import torch."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from padim_zoo.core.cpu import usable_processors

_MOST_PROCESSES = 4
_LOOKS, _LOOK_SECONDS = 300, 0.1
"""For so many looks a process may clean up. They are counted, and not the seconds: the machine may be suspended."""
_KEEP_FREED_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
"""For glibc. Otherwise the system clears the pages of each array of a picture anew: a seventh of the time."""

_drawing: dict[Path, subprocess.Popen[str]] = {}
"""By the folder of a category, the process that draws it."""


def draw_ahead(root: Path, categories: Sequence[str], parameters: Mapping[str, Any]) -> None:
    """Begin to draw the categories that are not there yet; the processes end with this one.

    Parameters
    ----------
    root : Path
    categories : sequence of str
    parameters : mapping
        As :func:`~padim_zoo.data.synthetic.generate` takes them, in JSON's types.
    """
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
    # This very package first: relative entries lead elsewhere from there.
    path = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import main; main()", str(root), json.dumps(parameters), *categories],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=os.sep,  # of which nothing is imported
        env={**os.environ, **_KEEP_FREED_MEMORY, "PYTHONPATH": os.pathsep.join(path)},
    )


def wait_for(folder: Path) -> None:
    """Wait for the process that draws the folder of a category, if there is one.

    If that fails, who draws it next tells why.
    """
    drawing = _drawing.pop(folder.absolute(), None)
    if drawing is None:
        return
    assert drawing.stdout is not None
    while not folder.is_dir() and drawing.stdout.readline():
        pass
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
        for _ in range(2 * _LOOKS):  # it ends itself by then
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
                break
        process.stdout.close()
    _drawing.clear()


def main() -> None:
    """Draw what :func:`draw_ahead` asks for, and tell each category that is done."""
    from padim_zoo.data.synthetic.dataset import generate

    root, parameters, *categories = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what they run in the background
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for category in categories:
        generate(root, categories=[category], **json.loads(parameters))
        print(category, flush=True)


def _end_with_parent() -> None:
    """Once the parent is gone, interrupt the drawing, which then removes its drafts; end without it if that fails."""
    sys.stdin.read()
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    for _ in range(_LOOKS):
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
