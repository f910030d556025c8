"""Sphinx makes a site of these pages, of the docstrings and of the command line: ``tox -e docs``."""

from __future__ import annotations

import re
import threading

from sphinx.application import Sphinx

from padim_zoo import __version__

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
    """Pages outside of this folder are on the site too: the README is its first, those of plugins are in plugins/."""
    content[0] = content[0].replace("](../README.md", "](index.myst")
    content[0] = re.sub(r"\]\(\.\./plugins/([\w-]+)/README\.md", r"](plugins/\1.myst", content[0])


def _skip_lock(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """``from threading import Lock`` is a member of the module to Sphinx, and has no signature that it can read."""
    return True if obj is threading.Lock else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read_page)
    app.connect("autodoc-skip-member", _skip_lock)
