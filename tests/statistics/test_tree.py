"""Parts join in a tree that their number decides, in their order."""

from __future__ import annotations

import pytest

from padim_zoo.statistics.tree import reduce_in_tree


@pytest.mark.parametrize(
    ("n", "tree"), [(1, "0"), (2, "(01)"), (3, "((01)2)"), (5, "(((01)(23))4)"), (7, "(((01)(23))((45)6))")]
)
def test_the_tree(n: int, tree: str) -> None:
    assert reduce_in_tree(map(str, range(n)), lambda one, other: f"({one}{other})") == tree


def test_few_parts_are_alive() -> None:
    alive = most = 0

    def parts() -> object:
        nonlocal alive, most
        for number in range(100):
            alive += 1
            most = max(most, alive)
            yield number

    def join(one: int, other: int) -> int:
        nonlocal alive
        alive -= 1
        return one + other

    assert reduce_in_tree(parts(), join) == sum(range(100))  # type: ignore[arg-type]
    assert most <= 8
