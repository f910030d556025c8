"""The worst place of an image stands beside the most similar patches of others."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from padim_zoo import InputError, PaDiM, PatchCore, Subspace
from padim_zoo.detectors.nearest_patches import nearest_patches
from padim_zoo.detectors.suspects import find_suspects

OPTIONS = {"resize": None, "crop": None, "precision": "float32"}


def drawn(n: int = 10, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """Noise; the first image has a spot, and the fourth the same one elsewhere."""
    rng = np.random.default_rng(0)
    images = np.clip(120 + rng.normal(0, 12, (n, *size, 3)), 0, 255).astype(np.uint8)
    images[0, 8:24, 8:24] = images[3, 32:48, 64:80] = 250
    return images


def oracle(embeddings, worst: int, image: int, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of each image the distance of the nearest patch, and that patch, one by one."""
    values = embeddings[slice(0, embeddings.P)].double().numpy()
    query = values[worst, image]
    lowest, nearest = np.full(embeddings.n, np.inf), np.zeros(embeddings.n, dtype=int)
    for other in set(range(embeddings.n)) - {image}:
        for patch in [worst] if same else range(embeddings.P):
            distance = float(np.linalg.norm(values[patch, other] - query))
            if distance < lowest[other]:
                lowest[other], nearest[other] = distance, patch
    return lowest, nearest


@pytest.mark.parametrize(
    ("kind", "own"), [(PaDiM, {"n_components": 6}), (PatchCore, {}), (Subspace, {"augment": "flip"})]
)
def test_patches_are_those_of_a_search_one_by_one(kind, own):
    detector = kind(**OPTIONS, **own).fit(drawn())
    found = find_suspects(detector)
    places = nearest_patches(detector, found.maps)
    embeddings = detector.statistics_.embeddings
    embeddings = embeddings.images(np.arange(0, embeddings.n, embeddings.n // 10))
    height, width = embeddings.grid
    for image, (own_place, *others) in places.items():
        row, column = np.unravel_index(found.maps[image].argmax(), found.maps[image].shape)
        cell = int((row + 0.5) * height / 64), int((column + 0.5) * width / 96)
        assert own_place.image == image
        assert (own_place.row, own_place.column) == (
            (cell[0] + 0.5) * 64 / height - 0.5,
            (cell[1] + 0.5) * 96 / width - 0.5,
        )
        lowest, nearest = oracle(embeddings, cell[0] * width + cell[1], image, kind is PaDiM)
        expected = np.argsort(lowest)[:3]
        assert [place.image for place in others] == expected.tolist()
        for place in others:
            at = divmod(nearest[place.image], width)
            assert (place.row, place.column) == (
                (at[0] + 0.5) * 64 / height - 0.5,
                (at[1] + 0.5) * 96 / width - 0.5,
            )


@pytest.mark.parametrize("tiles", [None, "2x2+16"])
def test_a_spot_finds_its_like(tiles):
    detector = PatchCore(**OPTIONS, tiles=tiles).fit(drawn())
    own, nearest, *_ = nearest_patches(detector, {0: find_suspects(detector).maps[0]})[0]
    # A patch sees beyond itself: one at the edge of a spot may be the worst, or the most alike.
    assert 2 <= own.row < 30
    assert 2 <= own.column < 30
    assert nearest.image == 3
    assert 26 <= nearest.row < 54
    assert 58 <= nearest.column < 86


def test_what_does_not_count_is_not_shown():
    mask = np.zeros((64, 96), dtype=bool)
    mask[:, :48] = True
    detector = PatchCore(**OPTIONS, roi=mask).fit(drawn())
    for places in nearest_patches(detector, find_suspects(detector).maps).values():
        assert all(place.column < 48 for place in places)
    detector = PaDiM(**OPTIONS, n_components=6, roi=mask).fit(drawn())
    for own, *others in nearest_patches(detector, find_suspects(detector).maps).values():
        assert own.column < 48
        assert {(place.row, place.column) for place in others} == {(own.row, own.column)}


def test_images_of_several_sizes(tmp_path):
    paths = []
    for number, image in enumerate(drawn()):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image[: 64 - 8 * (number % 2)]).save(paths[-1])
    detector = Subspace(**OPTIONS).fit(paths)
    places = nearest_patches(detector, find_suspects(detector).maps)
    assert all(place.row < 64 - 8 * (place.image % 2) for found in places.values() for place in found)
    assert places[0][1].image == 3


def test_samples_are_needed():
    with pytest.raises(InputError, match="cannot compare patches: the detector is not fitted"):
        nearest_patches(Subspace(**OPTIONS), {0: np.zeros((64, 96))})
