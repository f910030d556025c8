"""The closest names, whatever their case; or all of them."""

from __future__ import annotations

import pytest

from padim_zoo.core.suggest import suggest

NAMES = ["Bottle", "cable", "capsule"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("botle", "did you mean Bottle, cable?"),
        ("CABEL", "did you mean cable, capsule?"),
        ("capable", "did you mean cable, capsule?"),
        ("xyz", "expected one of Bottle, cable, capsule"),
    ],
)
def test_hints(name: str, hint: str) -> None:
    assert suggest(name, NAMES) == hint


def test_what_is_said_where_nothing_is_close() -> None:
    assert suggest("xyz", iter(NAMES), "expected a category") == "expected a category"
