"""No trap passes in silence; ``benchmarks/honest.py`` tries the same ones on real folders too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.traps.table import TRAPS
from tests.traps.trap import Trap
from tests.traps.world import World

PAGE = Path(__file__).parents[2] / "docs" / "traps.md"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("traps"))


@pytest.mark.parametrize("trap", TRAPS, ids=[trap.name for trap in TRAPS])
def test_no_trap_passes_in_silence(world: World, trap: Trap) -> None:
    outcome = trap.check(world)
    assert outcome.passed, f"printed {outcome.printed}; right is {outcome.right}"


def test_the_sound_category_is_sound(world: World) -> None:
    assert world.sound["image_auroc"] == 1
    assert world.sound["pixel_auroc"] > 0.98


def test_the_page_has_a_row_for_each_trap() -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert [row for row in rows if row != "trap"] == [trap.name for trap in TRAPS]
