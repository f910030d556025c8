"""Imports go only downward in the map of docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "padim_zoo"


def floors() -> dict[str, int]:
    """The packages by the map, each with its floor, counted from the top; peers share a floor."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```\n(cli/.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [re.findall(r"([a-z_]+)/(?=\s|$)", line) for line in block.splitlines() if not line.startswith(" ")]
    return {package: floor for floor, packages in enumerate(lines) for package in packages}


class Imports(ast.NodeVisitor):
    """The modules that run-time code imports, at the top or within a function."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_If(self, node: ast.If) -> None:
        names = [node.test] if isinstance(node.test, (ast.Name, ast.Attribute)) else []
        if any(ast.unparse(name).endswith("TYPE_CHECKING") for name in names):
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [alias.name for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "relative imports hide what is imported"
        self.found += [f"{node.module}.{alias.name}" for alias in node.names]


def parts_of(source: str) -> Iterator[str]:
    """The parts of the package that a module imports."""
    visitor = Imports()
    visitor.visit(ast.parse(source))
    for name in visitor.found:
        package, _, rest = name.partition(".")
        if package == "padim_zoo" and rest and not rest.startswith("__"):  # the package itself imports nothing
            yield rest.partition(".")[0]


def upward(package: str, source: str) -> list[str]:
    """What a module of ``package`` imports from above it, or from a peer."""
    floor = floors()
    return [other for other in parts_of(source) if other != package and floor[other] <= floor[package]]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_what_is_above_it(path: Path) -> None:
    package = path.relative_to(PACKAGE).parts[0]
    if package.endswith(".py"):  # the face of the package: names at first use, all of them
        before_torch = ["core"] if package == "__init__.py" else []  # what has to be set before torch is imported
        assert list(parts_of(path.read_text(encoding="utf-8"))) == before_torch
    else:
        assert package in floors(), f"{package} is missing from the map"
        assert upward(package, path.read_text(encoding="utf-8")) == []


def test_every_package_of_the_map_exists() -> None:
    assert [package for package in floors() if not (PACKAGE / package / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from padim_zoo.cli.main import main", ["cli"]),
        ("import padim_zoo.bench.run as run", ["bench"]),
        ("def f():\n    from padim_zoo import detectors, core", ["detectors"]),
        ("if TYPE_CHECKING:\n    from padim_zoo import cli\nelse:\n    import padim_zoo.report", ["report"]),
        ("import numpy\nfrom padim_zoo import __version__\nfrom padim_zoo.core.errors import InputError", []),
    ],
)
def test_the_rule_sees_every_way_to_import(source: str, expected: list[str]) -> None:
    assert upward("data", source) == expected


def test_a_peer_may_not_import_a_peer() -> None:
    assert upward("export", "from padim_zoo.testing import images") == ["testing"]
