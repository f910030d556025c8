"""No score changes: what the package finds is what it found when ``golden.json`` was recorded.

``tools/record_golden.py`` records anew, which only a change that is meant to move scores may do. Numbers may differ by
1e-4 of the largest of their array, since machines round differently; ``PADIM_ZOO_GOLDEN_TOLERANCE`` is that share,
and 1e-5 is right on the machine that recorded.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_matrix import FAULTS, ROUGHER, RUNS, World, exit_code_of, recorded

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
TOLERANCE = float(os.environ.get("PADIM_ZOO_GOLDEN_TOLERANCE", "1e-4"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def assert_same(found: Any, expected: Any, name: str, tolerance: float) -> None:
    """Numbers nearly, relative to the largest of their array; counts, texts and what is missing exactly."""
    if isinstance(expected, (list, float)):
        assert found is not None, f"{name}: nothing, expected {expected}"
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest, err_msg=name)
    else:
        assert found == expected, name


@pytest.mark.parametrize("name", RUNS)
def test_no_score_has_changed(name: str, world: World) -> None:
    found, expected = recorded(RUNS[name](world)), GOLDEN["runs"][name]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert_same(found[key], value, f"{name}: {key}", TOLERANCE * ROUGHER.get(name, 1.0))


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_as_before(name: str, world: World) -> None:
    assert exit_code_of(world, FAULTS[name]) == GOLDEN["faults"][name]


def test_every_recorded_result_is_compared() -> None:
    assert list(GOLDEN["runs"]) == list(RUNS)
    assert list(GOLDEN["faults"]) == list(FAULTS)
