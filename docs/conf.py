"""Sphinx makes a site of these pages, of the docstrings and of the command line: ``tox -e docs``."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from sphinx.application import Sphinx

from padim_zoo import __version__

ROOT = Path(__file__).resolve().parents[1]
INCLUDED = re.compile(r"```\{include\} \.\./(\w+\.md)\n```\n")
"""A block that stands for a page of the root folder."""

project = "padim-zoo"
copyright = "the authors of padim-zoo, Apache-2.0"
version = release = __version__
root_doc = "index"
source_suffix = {".md": "markdown", ".rst": "restructuredtext", ".myst": "markdown"}  # .myst: pages of the site alone
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_click"]
exclude_patterns = ["_build", "_templates", "workflows"]
templates_path = ["_templates"]

# GitHub's rules for the anchors of headings, since the same pages are read there.
myst_heading_anchors = 3

autosummary_generate = True
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # the docstrings say types, shapes and units
numpydoc_show_class_members = False

smartquotes = False  # they would turn --option into –option

html_theme = "furo"
html_title = f"padim-zoo {__version__}"
html_copy_source = False


def _read_page(app: Sphinx, docname: str, content: list[str]) -> None:
    """Pages outside of this folder are on the site too, and links lead there: README is its first page."""
    text = INCLUDED.sub(_included, content[0])
    text = text.replace("](../README.md", "](index.myst")
    text = re.sub(r"\]\(\.\./(CHANGELOG|CONTRIBUTING)\.md", r"](\1.myst", text)
    content[0] = re.sub(r"\]\(\.\./plugins/([\w-]+)/README\.md", r"](plugins/\1.myst", text)


def _included(include: re.Match[str]) -> str:
    """The text of a page of the root folder, with links as if it were in this one."""
    text = (ROOT / include[1]).read_text(encoding="utf-8")
    text = text.replace("[Apache-2.0](LICENSE)", "Apache-2.0")
    return re.sub(r"\]\((?!https?:|#)", "](../", text).replace("](../docs/", "](")


def _skip_lock(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """``from threading import Lock`` is a member of the module to Sphinx, and has no signature that it can read."""
    return True if obj is threading.Lock else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read_page)
    app.connect("autodoc-skip-member", _skip_lock)
