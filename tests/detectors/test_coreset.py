"""The coreset against the greedy algorithm written down literally."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from padim_zoo.detectors import coreset
from padim_zoo.detectors.coreset import greedy_k_center


def literal(points: np.ndarray, count: int, seed: int) -> list[int]:
    chosen = [int(np.random.default_rng(seed).integers(len(points)))]
    while len(chosen) < count:
        distances = np.min([((points - points[center]) ** 2).sum(1) for center in chosen], axis=0)
        distances[chosen] = -1
        chosen.append(int(distances.argmax()))
    return chosen


@pytest.mark.parametrize("active", [1, 7, 64, 5000])
@pytest.mark.parametrize("offset", [0, 50])
def test_equals_the_literal_choice(active, offset, monkeypatch):
    monkeypatch.setattr(coreset, "ACTIVE", active)
    monkeypatch.setattr(coreset, "BLOCK_BYTES", 4000)
    points = np.random.default_rng(1).normal(offset, 1, (400, 9)).astype("f")
    found = greedy_k_center(torch.from_numpy(points), 120, seed=3)
    assert found.tolist() == literal(points.astype("d"), 120, seed=3)


def test_equal_points_are_chosen_once_each(monkeypatch):
    monkeypatch.setattr(coreset, "ACTIVE", 4)
    points = torch.tensor([[0.0], [1.0]]).repeat(10, 1)
    assert sorted(greedy_k_center(points, 20, seed=0).tolist()) == list(range(20))
    first_two = greedy_k_center(points, 2, seed=0)
    assert points[first_two].flatten().sort().values.tolist() == [0, 1]


def test_tells_how_far_it_is():
    told: list[tuple[int, int]] = []
    greedy_k_center(torch.randn(300, 4), 50, seed=0, report=lambda done, of: told.append((done, of)))
    assert told[-1] == (50, 50)
    assert told == sorted(told)
