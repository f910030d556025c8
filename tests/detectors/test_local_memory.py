"""PatchCore within a radius against PatchCore with a bank for each position, written down literally in float64."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from padim_zoo import InputError, PatchCore
from padim_zoo.core.fields import FieldError
from padim_zoo.detectors import memory_bank
from padim_zoo.detectors.coreset import greedy_k_center
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.memory_bank import MemoryBank, Neighborhoods

SIZE = (40, 56)
GRID = (5, 7)
OPTIONS: dict[str, Any] = {"backbone": "resnet18", "weights": "none", "resize": None, "crop": None}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noisy stripes with a gradient, (14, 40, 56, 3), uint8: another texture at each position."""
    rng = np.random.default_rng(0)
    stripes = 60 * np.sin(np.arange(56) ** 1.4 / 5)[None, :, None] + np.linspace(60, 150, 40)[:, None, None]
    return np.clip(stripes + rng.normal(0, 25, (14, *SIZE, 3)), 0, 255).astype(np.uint8)


def distance(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1]))


def literal(detector: PatchCore, normal: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and maps: the bank is thinned out cell by cell, and searched position by position."""
    bank = detector.embed(detector.extract(normal)).layers[0]
    patches = detector.embed(detector.extract(images)).layers[0].double().numpy()
    radius, ratio = detector.radius, detector.coreset_ratio
    everywhere = list(np.ndindex(GRID))
    kept: list[tuple[tuple[int, int], np.ndarray]] = []
    for top in range(0, GRID[0], radius + 1):
        for left in range(0, GRID[1], radius + 1):
            here = [at for at in everywhere if 0 <= at[0] - top <= radius and 0 <= at[1] - left <= radius]
            of_cell = [(at, vector) for at in here for vector in bank[everywhere.index(at)]]
            count = max(1, round(ratio * len(of_cell)))
            rows = range(len(of_cell))
            if count < len(of_cell):
                points = detector.projected(torch.stack([vector for _, vector in of_cell]))
                rows = greedy_k_center(points, count, detector.seed).tolist()
            kept += [(of_cell[row][0], of_cell[row][1].double().numpy()) for row in rows]
    distances = np.empty((len(images), *GRID))
    scores = np.empty(len(images))
    for image in range(len(images)):
        found = {}
        for number, at in enumerate(everywhere):
            near = np.stack([vector for there, vector in kept if distance(at, there) <= radius])
            apart = np.linalg.norm(near - patches[number, image], axis=1)
            distances[image][at] = apart.min()
            found[at] = near, apart
        worst = everywhere[distances[image].argmax()]
        near, apart = found[worst]
        around = np.linalg.norm(near - near[apart.argmin()], axis=1).argsort()[: detector.n_neighbors]
        weight = 1 - np.exp(apart.min()) / np.exp(apart[around]).sum() if len(around) > 1 else 1
        scores[image] = apart.min() * weight
    upsampled = interpolate(torch.from_numpy(distances)[:, None], SIZE, mode="bilinear")[:, 0].numpy()
    return scores, np.stack([gaussian_filter(one, 4, mode="reflect") for one in upsampled])


@pytest.mark.parametrize("at_once", [1, 5000, memory_bank.SEARCHED_AT_ONCE])
@pytest.mark.parametrize(
    ("radius", "ratio", "n_neighbors"), [(0, 1, 9), (0, 0.3, 2), (1, 0.2, 1), (2, 0.1, 9), (4, 0.1, 9)]
)
def test_equals_a_bank_for_each_position(images, radius, ratio, n_neighbors, at_once, monkeypatch):
    monkeypatch.setattr(memory_bank, "SEARCHED_AT_ONCE", at_once)
    detector = PatchCore(radius=radius, coreset_ratio=ratio, n_neighbors=n_neighbors, **OPTIONS).fit(images[:10])
    prediction = detector.predict(images[10:])
    scores, maps = literal(detector, images[:10], images[10:])
    np.testing.assert_allclose(prediction.maps, maps, rtol=1e-4)
    np.testing.assert_allclose(prediction.scores, scores, rtol=1e-4)


def test_a_radius_over_the_whole_grid_is_patchcore(images):
    options = {"coreset_ratio": 0.2, **OPTIONS}
    near, all_of_them = (PatchCore(radius=each, **options).fit(images[:10]) for each in (6, None))
    assert torch.equal(near.model_.patches, all_of_them.model_.patches)
    one, other = near.predict(images), all_of_them.predict(images)
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
    np.testing.assert_allclose(one.maps, other.maps, rtol=1e-5)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 9])
def test_every_position_has_a_patch_of_its_cell(radius):
    places = Neighborhoods(torch.arange(35), GRID, radius)
    assert sorted(set(places.cells.flatten().tolist())) == list(range(35))
    of_cells = places.of_cells()
    assert sorted(torch.cat(of_cells).tolist()) == list(range(35))
    one_of_each = MemoryBank(torch.zeros(35, 2), places).some(torch.stack([rows[-1] for rows in of_cells]))
    assert one_of_each.neighborhoods is not None
    assert one_of_each.neighborhoods.served.all()
    for position in range(35):
        there = [divmod(int(at), GRID[1]) for at in places.positions[places.within(position)]]
        assert there == [at for at in np.ndindex(GRID) if distance(at, divmod(position, GRID[1])) <= radius]


def test_what_lies_elsewhere_is_no_match():
    layer = torch.randn(35, 3, 8, generator=torch.Generator().manual_seed(0))
    moved = layer.view(*GRID, 3, 8).roll(2, 1).flatten(0, 1)
    positions = torch.arange(35)[:, None].expand(-1, 3).flatten()
    apart = {radius: MemoryBank(layer.flatten(0, 1), Neighborhoods(positions, GRID, radius)) for radius in (1, 2)}
    inside = torch.arange(35) % GRID[1] >= 2
    assert apart[1].nearest(moved)[0].min() > 0.1
    assert apart[2].nearest(moved)[0][inside].max() == 0
    assert MemoryBank(layer.flatten(0, 1)).nearest(moved)[0].max() == 0


def test_positions_without_normal_patches_have_no_score(images):
    roi = np.zeros(SIZE, dtype=bool)
    roi[:, 24:] = True
    detector = PatchCore(radius=0, coreset_ratio=0.5, roi=roi, **OPTIONS).fit(images[:10])
    assert np.isfinite(detector.predict(images[10:]).scores).all()
    right = torch.arange(35) % GRID[1] >= 3
    assert torch.equal(detector.model_.neighborhoods.served, right)
    some = torch.rand(35, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    assert torch.equal(detector.model_.counted(None, 4), right[:, None].expand(-1, 4))
    assert torch.equal(detector.model_.counted(some, 4), right[:, None] & some)
    with pytest.raises(InputError, match="no patches near some positions"):
        detector.scoring_network()


def test_a_file_goes_on_within_the_radius(images, tmp_path):
    PatchCore(radius=1, coreset_ratio=1, **OPTIONS).fit(images[:6]).save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert loaded.radius == 1
    assert "compared within 1 position" in loaded.describe_fit()["bank"]
    whole = PatchCore(radius=1, coreset_ratio=1, **OPTIONS).fit(images[:10])
    np.testing.assert_allclose(
        loaded.partial_fit(images[6:10]).predict(images).scores, whole.predict(images).scores, rtol=1e-5
    )


def test_another_radius_makes_another_bank_of_the_same_samples(images):
    detector = PatchCore(radius=2, coreset_ratio=0.2, **OPTIONS).fit(images[:10])
    expected = PatchCore(radius=0, coreset_ratio=0.2, **OPTIONS).fit(images[:10]).predict(images)
    np.testing.assert_array_equal(detector.set_params(radius=0).predict(images).scores, expected.scores)


def test_a_position_is_not_forgotten_altogether(images, tmp_path):
    PatchCore(radius=0, coreset_ratio=0.2, **OPTIONS).fit(images[:10]).save(tmp_path / "m")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="near some position"):
            load(tmp_path / "m").forget(images[:9])


@pytest.mark.parametrize("radius", [-1, 1.5, "wide"])
def test_a_bad_radius_is_refused(radius):
    with pytest.raises(InputError, match="radius is"):
        PatchCore(radius=radius).fit(["there is no such file.png"])


def test_tiles_are_refused():
    with pytest.raises(InputError, match=r"patchcore\(radius=1\) .*: give radius or tiles, not both"):
        PatchCore(radius=1, tiles="2x2", **OPTIONS).check_parameters()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": torch.full((210,), 35)}, "lie outside of the grid of 5x7"),
        ({"positions": torch.full((210,), -1)}, "lie outside of the grid of 5x7"),
        ({"positions": torch.zeros(3, dtype=torch.int64)}, "not one number for each patch"),
        ({"grid": [5]}, "expected height and width"),
    ],
)
def test_positions_of_a_file_are_checked(images, change, message):
    detector = PatchCore(radius=1, coreset_ratio=1, **OPTIONS).fit(images[:6])
    arrays, header = detector.model_arrays(resumable=True, half=False)
    changed = {**arrays, **header, **change}
    file = SimpleNamespace(header=changed, arrays=lambda name: {"": changed[name]})
    with pytest.raises(FieldError, match=message):
        detector.restore(file)
