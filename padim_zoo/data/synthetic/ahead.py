"""Categories that another process draws, while this one does something else, such as to import torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_KEEP_FREED_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
"""For glibc. Else the system clears the pages of each array of a picture anew, which takes a seventh of the time."""

_drawing: dict[Path, subprocess.Popen[str]] = {}
"""By folder, the process that draws there."""


def draw_ahead(root: Path, categories: Sequence[str], parameters: Mapping[str, Any]) -> None:
    """Begin to draw the categories that are not there yet, in this order; the process ends with this one.

    Parameters
    ----------
    root : Path
    categories : sequence of str
    parameters : mapping
        As :func:`~padim_zoo.data.synthetic.generate` takes them, in JSON's types.
    """
    root = root.absolute()
    absent = [category for category in categories if not (root / category).is_dir()]
    if not absent or root in _drawing or not sys.executable:
        return
    code = f"from {__name__} import main; main()"
    with suppress(OSError):  # without it this process draws
        _drawing[root] = subprocess.Popen(
            [sys.executable, "-c", code, str(root), json.dumps(parameters), *absent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=os.sep,  # of which nothing is imported
            env={**os.environ, **_KEEP_FREED_MEMORY},
        )


def wait_for(root: Path, category: str) -> None:
    """Wait for the process that draws a category, if there is one. If that fails, who draws it next tells why."""
    root = root.absolute()
    drawing = _drawing.get(root)
    if drawing is None or (root / category).is_dir():
        return
    assert drawing.stdout is not None
    for line in drawing.stdout:
        if line.rstrip() == category:
            return
    drawing.wait()
    del _drawing[root]


def main() -> None:
    """Draw what :func:`draw_ahead` asks for, and tell each category that is done."""
    from padim_zoo.data.synthetic.dataset import generate

    root, parameters, *categories = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for category in categories:
        generate(root, categories=[category], **json.loads(parameters))
        print(category, flush=True)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)
