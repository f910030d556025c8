"""The search for near copies gives what all pairs would give, at a part of the work."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from padim_zoo.data import near_copies as search
from padim_zoo.data.groups import connected_groups, numbered_groups
from padim_zoo.data.near_copies import least_distances, near_copies, typical_distances


def thumbnails(seeds: list[int]) -> np.ndarray:
    """Frames of surfaces that are like each other; equal seeds show one surface."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(99)
    shape = gaussian_filter(np.random.default_rng(100).normal(size=(256, 256)), 12)
    frames = []
    for seed in seeds:
        surface = np.random.default_rng(seed).normal(size=(256, 256))
        picture = 128 + 1500 * shape + 40 * gaussian_filter(surface, 1.5) + 150 * gaussian_filter(surface, 8)
        moved = np.roll(picture, random.integers(-2, 3, 2), (0, 1))
        frames.append((random.uniform(0.97, 1.03) * moved + random.normal(0, 1, moved.shape)).clip(0, 255))
    return np.array(frames).astype(np.uint8)


def literal_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of the fine detail of two thumbnails: all translations one by one, the largest product of them is taken."""
    from scipy.ndimage import gaussian_filter

    details = []
    for image in (one.astype(np.float64), other.astype(np.float64)):
        band = gaussian_filter(image, 0.7) - gaussian_filter(image, 2)
        details.append(band / np.sqrt(gaussian_filter(band**2, 4) + 4))
    fixed = details[0][10:246, 10:246]
    windows = [details[1][down : down + 236, right : right + 236] for down in range(21) for right in range(21)]
    best = max(windows, key=lambda window: float(((fixed - fixed.mean()) * window).sum()))
    return float(np.corrcoef(fixed.ravel(), best.ravel())[0, 1])


def test_correlations_are_the_literal_ones() -> None:
    images = thumbnails([0, 0, 1])
    correlation = search._correlations(images)
    for one, other in ((0, 1), (1, 2), (2, 0)):
        assert correlation(one, other) == pytest.approx(literal_correlation(images[one], images[other]), abs=1e-5)
    flat = search._correlations(np.full((2, 256, 256), 7, dtype=np.uint8))
    assert flat(0, 1) == 0


def test_details_go_with_the_search() -> None:
    """Half a MiB for each image is freed at once, and not when a collector runs."""
    images = thumbnails([0, 1])
    correlation = search._correlations(images)
    correlation(0, 1)
    last = weakref.ref(correlation)
    gc.disable()
    try:
        del correlation
        assert last() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("seeds", [[0, 1, 0, 0, 2, 0], [0] * 6, [0, 1, 2, 3], [0, 0, 0, 0, 1, 1]], ids=str)
def test_groups_are_those_of_all_pairs(seeds: list[int]) -> None:
    images = thumbnails(seeds)
    n = len(images)
    distances = search._distances(images)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    correlations = {(i, j): literal_correlation(images[i], images[j]) for i, j in pairs}
    alike = [(i, j) for i, j in pairs if distances[i, j] <= 0.0025 and correlations[i, j] >= 0.65]
    typical = typical_distances(distances, connected_groups(n, alike))
    copies = []
    for i, j in pairs:
        least = min(typical[i], typical[j])
        sure = least >= 0.3 and distances[i, j] <= 0.006 * least
        near = distances[i, j] <= max(2e-4, min(0.0025, 0.08 * least))
        if near and correlations[i, j] >= (0.65 if sure else 0.82):
            copies.append((i, j))
    groups = connected_groups(n, near_copies(images).links)
    assert groups.tolist() == connected_groups(n, copies).tolist() == numbered_groups(seeds).tolist()


def test_typical_distances_are_the_literal_ones() -> None:
    random = np.random.default_rng(0)
    distances = random.uniform(size=(9, 9))
    bursts = np.array([0, 1, 0, 2, 0, 3, 1, 0, 0])
    literal = [
        np.median([min(distances[i][bursts == burst]) for burst in range(4) if burst != bursts[i]]) for i in range(9)
    ]
    assert typical_distances(distances, bursts) == pytest.approx(literal)
    assert typical_distances(distances, np.zeros(9, dtype=np.int64)) == pytest.approx([0.0025 / 0.08] * 9)


def test_linked_images_are_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one scene all 276 pairs are candidates; 23 links are enough, and as many join it as a burst, or a few more."""
    compared: list[search._Detail] = []
    computed: list[np.ndarray] = []
    correlation, detail = search._correlation, search._detail

    def counted(fixed: search._Detail, moved: search._Detail) -> float:
        compared.append(fixed)
        return correlation(fixed, moved)

    def counted_detail(thumbnail: np.ndarray) -> search._Detail:
        computed.append(thumbnail)
        return detail(thumbnail)

    monkeypatch.setattr(search, "_correlation", counted)
    monkeypatch.setattr(search, "_detail", counted_detail)
    assert len(near_copies(thumbnails([0] * 24)).links) == 23
    assert len(compared) <= 4 * 24
    assert len({thumbnail.tobytes() for thumbnail in computed}) == len(computed) == 24


def test_distances_are_those_of_literal_correlations() -> None:
    random = np.random.default_rng(0)
    some = random.normal(size=(2, 128, 128)).astype(np.float32)
    others = np.stack([np.roll(some[0], (2, -3), (0, 1)), random.normal(size=(128, 128))]).astype(np.float32)
    literal = np.full((2, 2), -1.0)
    for i in range(2):
        for j in range(2):
            for down in range(9):
                for right in range(9):
                    one = some[i, 4:124:4, 4:124:4].ravel()
                    other = others[j, down : down + 120 : 4, right : right + 120 : 4].ravel()
                    literal[i, j] = max(literal[i, j], np.corrcoef(one, other)[0, 1])
    distances = least_distances(some, others)
    assert distances[0, 0] < 1e-5
    # A parabola through the peak adds a little between whole pixels.
    assert (distances <= 1 - literal + 1e-5).all()
    assert distances[1, 1] > 0.5


def test_memory_grows_by_a_fraction_of_a_thumbnail() -> None:
    """Bands of all images at once took five times the memory of their thumbnails."""

    def peak(n: int) -> int:
        images = list(np.random.default_rng(0).integers(80, 160, (n, 256, 256), dtype=np.uint8))
        tracemalloc.start()
        try:
            near_copies(images)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(300) - peak(100) < 200 * 256 * 256 / 2
