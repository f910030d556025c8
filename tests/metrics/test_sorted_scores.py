"""Pixels in blocks give what one sort of all of them gives, to the last bit, in less memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padim_zoo.core.spill import spill_above
from padim_zoo.metrics import evaluate, sorted_scores
from padim_zoo.metrics.sorted_scores import SortedScores, highest, quantile
from padim_zoo.metrics.thresholds import pixel_threshold

rng = np.random.default_rng(0)


@pytest.fixture(params=[1, 7, 1000])
def parts(request: Any, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Scores with ties, in parts of several shapes, that make many blocks, some, or one in pieces."""
    monkeypatch.setattr(sorted_scores, "BLOCK", request.param)
    monkeypatch.setattr(sorted_scores, "_PIECE", 5)
    return [rng.integers(0, 40, shape).astype(np.float32) / 8 for shape in ((3, 5), (0,), (40,), (2, 2, 2))]


def test_counts_are_those_of_one_sort(parts: list[np.ndarray]) -> None:
    together = np.concatenate([part.ravel() for part in parts])
    scores = SortedScores.of(part.ravel() for part in parts)
    asked = np.concatenate([together, np.float32([-1, 0.3, 9])])
    assert len(scores) == len(together)
    assert scores.count_above(asked).tolist() == [(together > one).sum() for one in asked]
    assert scores.count_at_or_above(asked).tolist() == [(together >= one).sum() for one in asked]
    for one in asked:
        lower = together[together < one]
        assert scores.highest_below(one) == (lower.max() if len(lower) else None)


@pytest.mark.parametrize("count", [0, 1, 5, 62, 63, 64])
def test_the_highest_are_the_end_of_a_sort(count: int, parts: list[np.ndarray]) -> None:
    together = np.sort(np.concatenate([part.ravel() for part in parts]))
    np.testing.assert_array_equal(highest(parts, count), together[max(0, len(together) - count) :])


@pytest.mark.parametrize("q", [0.0, 0.37, 0.999, 1.0])
def test_a_quantile_is_numpys(q: float, parts: list[np.ndarray]) -> None:
    together = np.concatenate([part.ravel() for part in parts])
    assert quantile(parts, q) == pytest.approx(np.quantile(together.astype(np.float64), q), rel=1e-6)


def test_all_metrics_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With regions of interest, ties, a normal image and one without a mask."""
    labels = np.array([0, 1, 1, 0, 1])
    maps = (rng.integers(0, 200, (5, 40, 50)) / 16).astype(np.float32)
    masks: list[np.ndarray | None] = [None, *(np.zeros((40, 50), dtype=bool) for _ in range(2)), None, None]
    masks[1][3:9, 4:20] = masks[2][30:33, 1:4] = masks[2][5:9, 40:] = True  # type: ignore[index]
    maps[1:3] += 3 * np.stack(masks[1:3])  # type: ignore[arg-type]
    roi_masks = np.ones(maps.shape, dtype=bool)
    roi_masks[:, :5] = False
    options: dict[str, Any] = {"aupimo_bounds": (0.01, 0.1)}
    for roi in (None, roi_masks):
        whole = evaluate(labels, maps.max((1, 2)), maps, masks, roi_masks=roi, **options)
        with monkeypatch.context() as patch, spill_above(0):
            patch.setattr(sorted_scores, "BLOCK", 777)
            blocks = evaluate(labels, maps.max((1, 2)), maps, masks, roi_masks=roi, **options)
        threshold, other = (each.values.pop("pixel_threshold") for each in (whole, blocks))
        assert other == pytest.approx(threshold, rel=1e-6)  # NumPy places quantiles of float32 in float32
        np.testing.assert_equal(blocks.values, whole.values)
        for name, curve in whole.curves.items():
            np.testing.assert_array_equal(blocks.curves[name], curve)
        assert blocks.notes == whole.notes


def test_pixels_are_never_together_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADIM_ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(sorted_scores, "BLOCK", 2**16)
    n, side = 60, 256  # 15.7 MB of maps
    maps = np.memmap(tmp_path / "maps", np.float32, "w+", shape=(n, side, side))
    for image in range(n):
        maps[image] = rng.random((side, side), dtype=np.float32)
    mask = np.zeros((side, side), dtype=bool)
    mask[:8, :8] = True
    masks = [mask if image % 2 else None for image in range(n)]
    labels = np.arange(n) % 2
    scores = labels + rng.random(n)

    with spill_above(0):
        evaluate(labels[:4], scores[:4], maps[:4], masks[:4])  # what is imported is not counted
    tracemalloc.start()
    try:
        with spill_above(0):
            result = evaluate(labels, scores, maps, masks, pixel_threshold=pixel_threshold(maps))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.values["pixel_auroc"] == pytest.approx(0.5, abs=0.05)
    assert peak < 0.3 * maps.nbytes


def test_pieces_are_few_as_each_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_scores, "_PIECE", 5)
    scores = rng.permutation(1000).astype(np.float32)
    assert [len(SortedScores.of([scores[:n]]).blocks) for n in (5, 6, 1000)] == [1, 2, 4]
