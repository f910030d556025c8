"""The site leaves out no page, no module and no public name; `tox -e docs` makes it, with warnings as errors."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import padim_zoo
import padim_zoo.plugin

DOCS = Path(__file__).resolve().parents[2] / "docs"
SUFFIXES = (".md", ".rst", ".myst")
API = (DOCS / "reference" / "api.rst").read_text(encoding="utf-8")


def test_every_page_is_in_the_menu_and_in_the_index() -> None:
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - {"README.md"}
    plugins = {f"plugins/{page.parent.name}" for page in (DOCS.parent / "plugins").glob("*/README.md")}
    menu = set(re.findall(r"^[\w/-]+$", (DOCS / "index.myst").read_text(encoding="utf-8"), re.MULTILINE))
    assert {page.removesuffix(".md") for page in pages} | plugins <= menu
    assert {name for name in menu if not any((DOCS / name).with_suffix(end).exists() for end in SUFFIXES)} == set()
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert {page for page in pages if f"]({page})" not in index} == set()


def test_every_module_is_described() -> None:
    modules = {f"padim_zoo.{module.name}" for module in pkgutil.iter_modules(padim_zoo.__path__)} - {"padim_zoo.cli"}
    assert modules == set(re.findall(r"^   (padim_zoo\.\w+)$", API, re.MULTILINE))


def test_every_name_of_the_package_is_described_where_it_lives() -> None:
    users, authors = API.split("The public names of ``padim_zoo.plugin``")
    for public, text in ((padim_zoo, users), (padim_zoo.plugin, authors)):
        described = {name: module for module, name in re.findall(r"^   ~(padim_zoo[\w.]*)\.(\w+)$", text, re.MULTILINE)}
        assert set(described) == set(public.__all__) - {"__version__"}
        for name, module in described.items():
            assert getattr(importlib.import_module(module), name) is getattr(public, name)


def test_every_name_for_plugins_is_in_the_table() -> None:
    section = (DOCS / "api.md").read_text(encoding="utf-8").partition("## padim_zoo.plugin")[2]
    rows = re.findall(r"^\| (`.*`) \|", section, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row.partition(" | ")[0])) == sorted(
        padim_zoo.plugin.__all__
    )
