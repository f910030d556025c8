"""Where files that can be made again are kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The folder for generated data; it may not exist yet.

    The environment variable ``PADIM_ZOO_CACHE`` names it; without that it is the platform's cache
    folder for padim-zoo, e.g. ``~/.cache/padim-zoo`` on Linux.
    """
    chosen = os.environ.get("PADIM_ZOO_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "padim-zoo" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "padim-zoo"
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "padim-zoo"
