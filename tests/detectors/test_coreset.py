"""The coreset against the greedy algorithm written down literally."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from padim_zoo import PatchCore
from padim_zoo.detectors import coreset, patchcore
from padim_zoo.detectors.coreset import greedy_k_center, is_literal, k_center_in_blocks


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


def test_blocks_make_the_greedy_choice_and_the_farthest_of_all_are_taken(monkeypatch):
    monkeypatch.setattr(coreset, "BLOCK_POINTS", 100)
    spread = np.repeat([1.0, 1.0, 5.0], 100)[:, None]  # the last block varies more
    points = (np.random.default_rng(1).normal(size=(300, 6)) * spread).astype("f")
    found = k_center_in_blocks(lambda rows: torch.from_numpy(points)[rows], 300, 60, seed=3).tolist()
    rng, candidates = np.random.default_rng(3), []
    for start in (0, 100, 200):
        block, chosen = points[start : start + 100].astype("d"), [int(rng.integers(100))]
        candidates.append((np.inf, start + chosen[0]))
        while len(chosen) < 40:
            distances = np.min([((block - block[center]) ** 2).sum(1) for center in chosen], axis=0)
            chosen.append(int(distances.argmax()))
            candidates.append((distances.max(), start + chosen[-1]))
    assert found == sorted(index for _, index in sorted(candidates, reverse=True)[:60])
    of_blocks = np.bincount(np.array(found) // 100)
    assert of_blocks[2] > 2 * of_blocks[0]


def test_blocks_cover_nearly_as_well(monkeypatch):
    monkeypatch.setattr(coreset, "BLOCK_POINTS", 500)
    points = torch.randn(3000, 5, generator=torch.Generator().manual_seed(0))
    whole, blocks = greedy_k_center(points, 300, 0), k_center_in_blocks(lambda rows: points[rows], 3000, 300, 0)
    radius, of_blocks = (float(torch.cdist(points, points[chosen]).amin(1).max()) for chosen in (whole, blocks))
    assert of_blocks < 1.5 * radius
    assert len(blocks.unique()) == 300


@pytest.mark.parametrize("count", [1, 2, 5, 299, 300])
def test_any_number_of_centers(count, monkeypatch):
    monkeypatch.setattr(coreset, "BLOCK_POINTS", 100)
    points = torch.randn(300, 3)
    assert len(k_center_in_blocks(lambda rows: points[rows], 300, count, 0).unique()) == count


def test_patchcore_chooses_in_blocks_of_many_patches(monkeypatch):
    images = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)
    options = {"backbone": "scattering", "resize": None, "coreset_ratio": 0.2}
    assert is_literal(200_000, 20_000)  # a category at 256 pixels
    assert not is_literal(2_000_000, 2000)  # few of very many, which would be in memory twice
    literal, in_blocks = (PatchCore(**options).fit(images) for _ in range(2))
    assert len(literal.model_) == 77
    monkeypatch.setattr(coreset, "LITERAL_PAIRS", 1000)
    monkeypatch.setattr(coreset, "BLOCK_POINTS", 64)
    monkeypatch.setattr(patchcore, "LARGE_CHOICE", 0)
    monkeypatch.setattr(patchcore, "LONG", 0.0)
    with pytest.warns(UserWarning, match=r"the choice of 77 of 384 patches takes about .*made in blocks.*ratio=0.01"):
        in_blocks.model_  # noqa: B018  made when first wanted
    assert in_blocks.model_.patches.shape == literal.model_.patches.shape
    scores = [detector.predict(images[:2] // 2).scores for detector in (literal, in_blocks)]
    np.testing.assert_allclose(*scores, rtol=0.2)
    with pytest.warns(UserWarning, match=r"ratio=0.0006"):  # fewer than were asked for
        PatchCore(**options | {"coreset_ratio": 0.006}).fit(images).model_  # noqa: B018
