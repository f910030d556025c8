"""Install plugins for real, by pip, and run their tests against what was installed.

    python tools/test_plugin.py example-backbone dinov2

installs ``plugins/padim-zoo-NAME`` of each name into the running environment, which has padim-zoo and pytest, and
takes them out again. ``plugin-NAME``, as the environments of tox are called, is the same.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """The exit status of pytest, or of pip if that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--keep", action="store_true", help="leave the plugins installed")
    parser.add_argument("--no-deps", action="store_true", help="install the plugins alone: what they need is here")
    options, pytest_options = parser.parse_known_args(arguments)
    projects = [f"padim-zoo-{name.removeprefix('plugin-')}" for name in options.names]
    folders = [ROOT / "plugins" / project for project in projects]
    for folder in folders:
        if not (folder / "setup.cfg").is_file():
            parser.error(f"{folder} has no setup.cfg: expected a plugin")
    # Without an environment of its own for the build: setuptools is here, because torch needs it.
    install = ["install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-build-isolation"]
    install += ["--no-deps"] if options.no_deps else ["-c", str(ROOT / "constraints.txt")]
    try:
        # From a copy: pip leaves build folders behind in the sources.
        with tempfile.TemporaryDirectory() as scratch:
            copies = [_copy(folder, Path(scratch)) for folder in folders]
            status = _run("pip", *install, "--force-reinstall" if options.no_deps else "--upgrade", *copies)
        if status:
            return status
        # From a folder that has no module of this name: what is tested is what was installed.
        with tempfile.TemporaryDirectory() as elsewhere:
            tests = [str(folder / "tests") for folder in folders]
            return _run("pytest", "-p", "no:cacheprovider", *tests, *pytest_options, cwd=elsewhere)
    finally:
        if not options.keep:
            _run("pip", "uninstall", "--quiet", "--yes", "--disable-pip-version-check", *projects)


def _copy(folder: Path, scratch: Path) -> str:
    target = scratch / folder.name
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__"))
    return str(target)


def _run(module: str, *arguments: str, cwd: str | None = None) -> int:
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=cwd, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
