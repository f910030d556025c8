"""One covariance for each block of patches, against a loop over the patches of each block."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from padim_zoo import InputError
from padim_zoo.estimators.leave_one_out import has_leave_one_out
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings, PatchSubset
from padim_zoo.gaussians.gaussian import TiedGaussian, patches_of_blocks
from padim_zoo.registry import estimators
from padim_zoo.statistics.masked_samples import valid_samples
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

EPSILON = 0.01


def embeddings(n: int, grid: tuple[int, int] = (7, 10), seed: int = 0) -> PatchEmbeddings:
    """Of two layers with 4 and 3 channels, of which one is coarser."""
    rng = np.random.default_rng(seed)
    coarse = (-(-grid[0] // 2), -(-grid[1] // 2))
    shapes = ((n, 4, *grid), (n, 3, *coarse))
    maps = tuple(torch.from_numpy(rng.normal(0, 1 + rng.random(), shape)).float() for shape in shapes)
    return PatchEmbeddings.of(Features(maps, (4 * grid[0], 4 * grid[1])))


def literal_distances(train: PatchEmbeddings, test: PatchEmbeddings, cells: int) -> np.ndarray:
    """Squared distances (P, N), one patch after the other, in float64."""
    samples, others = train[:].double().numpy(), test[:].double().numpy()
    flat = np.arange(train.grid[0] * train.grid[1])
    if train.subset is not None:
        flat = train.subset.indices.numpy()
    rows, columns = np.divmod(flat, train.grid[1])
    squared = np.zeros((len(flat), others.shape[1]))
    for patch in range(len(flat)):
        same = (rows // cells == rows[patch] // cells) & (columns // cells == columns[patch] // cells)
        covariance = np.mean([np.cov(samples[other].T) for other in np.flatnonzero(same)], axis=0)
        inverse = np.linalg.inv(covariance + EPSILON * np.eye(len(covariance)))
        for image, x in enumerate(others[patch]):
            delta = x - samples[patch].mean(0)
            squared[patch, image] = delta @ inverse @ delta
    return squared


@pytest.mark.parametrize("cells", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("n", [4, 12])
def test_distances_are_those_of_a_loop(cells: int, n: int) -> None:
    train, test = embeddings(n), embeddings(5, seed=1)
    gaussian = estimators.create(f"tied(cells={cells})").fit(Samples(train))
    assert isinstance(gaussian, TiedGaussian)
    expected = literal_distances(train, test, cells)
    np.testing.assert_allclose(gaussian.squared_distances(test), expected, rtol=2e-4)
    again = TiedGaussian.from_arrays(gaussian.mean, gaussian.arrays())
    np.testing.assert_allclose(again.squared_distances(test), expected, rtol=2e-4)


def test_one_block_for_all_is_tied() -> None:
    train, test = embeddings(6), embeddings(3, seed=1)
    blocks, one = (estimators.create(spec).fit(Samples(train)) for spec in ("tied(cells=10)", "tied"))
    torch.testing.assert_close(blocks.squared_distances(test), one.squared_distances(test), rtol=1e-5, atol=1e-5)


def test_some_of_the_patches() -> None:
    subset = PatchSubset((7, 10), torch.tensor([0, 1, 12, 13, 14, 40, 41, 69]))
    train, test = (embeddings(n, seed=seed).within(subset) for n, seed in ((6, 0), (4, 1)))
    gaussian = estimators.create("tied(cells=4)").fit(Samples(train))
    np.testing.assert_allclose(gaussian.squared_distances(test), literal_distances(train, test, 4), rtol=2e-4)


def test_each_block_holds_its_patches_once() -> None:
    members = patches_of_blocks(embeddings(1), 3)
    assert members.shape == (12, 9)
    held = torch.cat([block.unique() for block in members])
    assert held.sort().values.tolist() == list(range(70))


def test_images_that_lack_patches() -> None:
    train = embeddings(8)
    roi_masks = torch.ones(8, 28, 40, dtype=torch.bool)
    roi_masks[:3, :, :20] = False
    masked = PatchEmbeddings(train.layers, train.grids, train.grid, roi_masks=roi_masks)
    gaussian = estimators.create("tied(cells=5)").fit(valid_samples(masked))
    left = train.images(np.arange(3, 8))
    subset = PatchSubset((7, 10), torch.tensor([patch for patch in range(70) if patch % 10 < 5]))
    test = embeddings(4, seed=1)
    expected = literal_distances(left.within(subset), test.within(subset), 5)
    squared = gaussian.squared_distances(test.on_one_grid())
    np.testing.assert_allclose(squared[subset.indices], expected, rtol=2e-4)


def test_a_file_holds_one_factor_for_each_block() -> None:
    gaussian = estimators.create("tied(cells=8)").fit(Samples(embeddings(5, (64, 72))))
    arrays = gaussian.arrays(half=True)
    assert len(arrays["factor.values"]) == 8 * 9
    stored = sum(array.numel() * array.element_size() for array in [*gaussian.mean.layers, *arrays.values()])
    assert gaussian.size_in_bytes() == stored


class NoMatrixPerPatch(Samples):
    """Refuses what takes D² numbers for each patch."""

    def scatter(self, patches: slice | torch.Tensor) -> torch.Tensor:
        raise AssertionError("a matrix for each patch")


@pytest.mark.parametrize("spec", ["tied", "tied(cells=3)"])
def test_no_matrix_for_each_patch_is_made(spec: str) -> None:
    train, test = embeddings(6), embeddings(3, seed=1)
    gaussian = estimators.create(spec).fit(NoMatrixPerPatch(train))
    cells = 10 if spec == "tied" else 3
    np.testing.assert_allclose(gaussian.squared_distances(test), literal_distances(train, test, cells), rtol=2e-4)


def test_pooled_covariances_are_the_sum_of_those_of_patches() -> None:
    train = embeddings(8)
    roi_masks = torch.ones(8, 28, 40, dtype=torch.bool)
    roi_masks[:3, :, :20] = False
    masked = valid_samples(PatchEmbeddings(train.layers, train.grids, train.grid, roi_masks=roi_masks))
    patches = torch.tensor([0, 4, 7, 39])
    for statistics in (Samples(train), masked, Moments.of(train, train.mean())):
        scatter, count = statistics.scatter(patches), statistics.count(patches)
        each = [scatter[i] / (float(torch.as_tensor(count).expand(4)[i]) - 1) for i in range(4)]
        torch.testing.assert_close(statistics.pooled(patches), torch.stack(each).sum(0))


def test_leaving_one_out_at_once_is_not_offered_for_blocks() -> None:
    assert has_leave_one_out(estimators.create("tied"))
    assert not has_leave_one_out(estimators.create("tied(cells=3)"))


@pytest.mark.parametrize("cells", [0, -1, 2.5, True])
def test_cells_that_are_none(cells: object) -> None:
    with pytest.raises(InputError, match=r"cells is .*: expected a whole number of patches"):
        estimators.create("tied", cells=cells)
