"""No identifier of the package is one that docs/glossary.md bans."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "padim_zoo"


def banned_names() -> dict[str, str]:
    """Names that the glossary bans, with where: ``whole`` identifiers, or ``part`` of one."""
    _, table = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("## Banned identifiers")
    return dict(re.findall(r"^\| `(\w+)` \| (whole|part) \|", table, re.MULTILINE))


def identifiers(source: str) -> Iterator[str]:
    """Every name that some code defines or uses."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                yield name
            case ast.alias(name=name):
                yield name.rpartition(".")[2]


def violations(source: str) -> set[str]:
    """The banned names that some code uses."""
    banned = banned_names()
    used = set(identifiers(source))
    parts = {part for name in used for part in name.lower().split("_")}
    return {name for name, where in banned.items() if name in (used if where == "whole" else parts)}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_identifier_is_banned(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8")) == set()
    assert path.stem not in banned_names()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def are_apart(): ...", {"are_apart"}),
        ("class Trial: ...", {"Trial"}),
        ("from padim_zoo.data.augmentation import Looks", {"Looks"}),
        ("evaluate(judged=masks)", {"judged"}),
        ("pixels_judged = 1", {"judged"}),
        ("prediction.recalled", {"recalled"}),
        ("found.trial = 'judged by PaDiM'", set()),
    ],
)
def test_the_rule_sees_every_way_to_name(source: str, expected: set[str]) -> None:
    assert violations(source) == expected


def test_every_banned_name_says_what_to_take_instead() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `\w+` \| (?:whole|part) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == len(banned_names()) > 50
    assert all("`" in instead for instead in rows)
