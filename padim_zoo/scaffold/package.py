"""A new plugin as a folder of files, each a template of the package with names filled in."""

from __future__ import annotations

import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template

from padim_zoo.core.atomic_write import draft_folder
from padim_zoo.core.errors import InputError, WriteError
from padim_zoo.core.suggest import suggest
from padim_zoo.registry import REGISTRIES

KINDS = ("backbone", "estimator", "detector", "dataset")
"""What a plugin can bring."""

PREFIX = "padim-zoo-"
"""How the names of plugin packages begin."""

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new_plugin(name: str, kind: str, folder: str | Path = ".") -> Path:
    """Write a plugin package ``padim-zoo-NAME`` into a folder, whole or not at all.

    Parameters
    ----------
    name : str
        What the plugin registers: lower-case letters and digits, in parts separated by ``-``.
    kind : str
        One of :data:`KINDS`.
    folder : path
        Where the folder of the package is made; it is created if need be.

    Returns
    -------
    Path
        The folder of the package.

    Raises
    ------
    InputError
        If the name or the kind cannot be used, the name is taken, or the folder exists or cannot be written.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}: {suggest(kind, KINDS)}")
    name = name.removeprefix(PREFIX)
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a plugin: expected lower-case letters and digits that begin with a letter, in parts "
            "separated by '-', e.g. my-stem"
        )
    if name in REGISTRIES[f"{kind}s"].names():
        source = REGISTRIES[f"{kind}s"].entry(name).source
        raise InputError(f"the {kind} {name} is there already, of {source}: choose another name")
    target = Path(folder) / f"{PREFIX}{name}"
    if target.exists() or target.is_symlink():
        raise InputError(f"{target} exists already: choose another name or --output, or remove it")
    files = _files(name, kind)
    try:
        with draft_folder(target) as draft:
            for path, text in files.items():
                (draft / path).parent.mkdir(parents=True, exist_ok=True)
                (draft / path).write_text(text, encoding="utf-8")
            draft.rename(target)
    except OSError as error:
        raise WriteError(target, error.strerror or str(error), error.errno) from None
    return target


def _files(name: str, kind: str) -> dict[str, str]:
    """The text of every file of the package, by its path."""
    module = (PREFIX + name).replace("-", "_")
    sources = {
        "setup.cfg": "setup.cfg.in",
        "pyproject.toml": "pyproject.toml.in",
        "README.md": "README.md.in",
        f"{module}.py": f"{kind}.py.in",
        f"tests/test_{module}.py": f"test_{kind}.py.in",
    }
    folder = resources.files("padim_zoo.scaffold") / "templates"
    texts = {path: (folder / source).read_text(encoding="utf-8") for path, source in sources.items()}
    is_class = kind in ("estimator", "detector")
    words = "".join(part.capitalize() for part in name.split("-")) if is_class else name.replace("-", "_")
    # A name that Python and the code leave free.
    taken = keyword.iskeyword(words) or re.search(rf"\b{words}\b", texts[f"{module}.py"])
    registered = f"{words}_" if taken else words
    filled = {"name": name, "kind": kind, "project": PREFIX + name, "module": module, "registered": registered}
    return {path: Template(text).safe_substitute(filled) for path, text in texts.items()}
