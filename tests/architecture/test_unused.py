"""No function has an optional parameter that no caller passes: it would be a choice that nobody makes."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CALLERS = ("padim_zoo", "plugins", "benchmarks", "tools", "tests")
EVERYTHING = 99


@dataclass
class Passed:
    """What calls by one name pass: so many positional arguments, these keywords; and whether it is used otherwise."""

    positional: int = 0
    keywords: set[str] = field(default_factory=set)
    is_value: bool = False


def calls(sources: list[str]) -> dict[str, Passed]:
    """What is passed to functions and classes, by their names."""
    passed: dict[str, Passed] = defaultdict(Passed)
    for source in sources:
        called = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                called.add(node.func)
                entry = passed[node.func.id if isinstance(node.func, ast.Name) else node.func.attr]
                starred = any(isinstance(argument, ast.Starred) for argument in node.args)
                entry.positional = max(entry.positional, EVERYTHING if starred else len(node.args))
                entry.keywords |= {keyword.arg or "**" for keyword in node.keywords}
            elif isinstance(node, (ast.Name, ast.Attribute)) and node not in called:
                # Handed on as a value: whoever calls it then may pass anything.
                passed[node.id if isinstance(node, ast.Name) else node.attr].is_value = True
    return passed


def optional_parameters(source: str) -> Iterator[tuple[str, str, int]]:
    """Name of the function or class, name of the parameter, and its position; a decorator may call as it likes."""

    def visit(node: ast.AST, owner: ast.ClassDef | None) -> Iterator[tuple[str, str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef) and not child.decorator_list:
                arguments, bound = child.args, int(owner is not None)
                name = owner.name if owner is not None and child.name == "__init__" else child.name
                first = len(arguments.args) - len(arguments.defaults)
                for position, argument in enumerate(arguments.args):
                    if position >= first:
                        yield name, argument.arg, position - bound
                for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
                    if default is not None:
                        yield name, argument.arg, EVERYTHING
            yield from visit(child, child if isinstance(child, ast.ClassDef) else None)

    yield from visit(ast.parse(source), None)


def never_passed(source: str, passed: dict[str, Passed], documented: set[str]) -> list[str]:
    """The optional parameters of a module's undocumented functions that no call passes."""
    return [
        f"{name}({parameter})"
        for name, parameter, position in optional_parameters(source)
        if name not in documented
        and not (name.startswith("__") or passed[name].is_value or {"**", parameter} & passed[name].keywords)
        and passed[name].positional <= position
    ]


@cache
def repository() -> tuple[dict[str, Passed], set[str]]:
    """All calls, and what the documentation calls, which is for users to pass things to."""
    files = [path for folder in CALLERS for path in (ROOT / folder).rglob("*.py")]
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    return calls([path.read_text(encoding="utf-8") for path in files]), set(re.findall(r"\w+(?=\()", pages))


def test_every_optional_parameter_is_passed_by_someone() -> None:
    passed, documented = repository()
    unused = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / "padim_zoo").rglob("*.py"))
        if (names := never_passed(path.read_text(encoding="utf-8"), passed, documented))
    }
    assert unused == {}


def test_a_parameter_that_nobody_passes_is_found() -> None:
    source = "def draw(image, size=1, *, color=2): ...\n\nclass Pen:\n    def __init__(self, width=3): ...\n"
    unused = ["draw(size)", "draw(color)", "Pen(width)"]
    assert never_passed(source, calls(["draw(image)\nPen()"]), set()) == unused
    assert never_passed(source, calls(["draw(image, 1, color=2)\nPen(width=3)"]), set()) == []
    assert never_passed(source, calls(["draw(*arguments)\ndraw(**options)\nmap(Pen, [1])"]), set()) == []
    assert never_passed(source, calls([""]), {"draw"}) == ["Pen(width)"]
