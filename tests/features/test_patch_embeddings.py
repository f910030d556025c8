"""Patch embeddings gathered from the layers' own grids, against upsampling and concatenation as the paper does it."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings

size = st.integers(1, 9)


def literal_embeddings(features: Features) -> np.ndarray:
    """Upsample every layer to the finest grid, concatenate, (P, n, D)."""
    finest = max(features.grids, key=lambda grid: grid[0] * grid[1])
    maps = torch.cat([interpolate(layer, finest, mode="nearest") for layer in features.maps], 1)
    return maps.flatten(2).permute(2, 0, 1).numpy()


@settings(max_examples=60, deadline=None)
@given(grids=st.lists(st.tuples(size, size), min_size=1, max_size=3), n=st.integers(1, 5), seed=st.integers(0, 9))
def test_equals_upsampling_and_concatenation(grids, n, seed):
    grids = sorted(grids, key=lambda grid: -grid[0] * grid[1])
    generator = torch.Generator().manual_seed(seed)
    layers = tuple(torch.randn(n, 2 + number, *grid, generator=generator) for number, grid in enumerate(grids))
    features = Features(layers, (8, 8))
    embeddings = PatchEmbeddings.of(features)
    expected = literal_embeddings(features)
    assert (embeddings.n, embeddings.P, embeddings.D) == (n, expected.shape[0], expected.shape[2])
    everything, part = slice(None), slice(embeddings.P // 3, embeddings.P // 3 + 2)
    np.testing.assert_array_equal(embeddings[everything], expected)
    np.testing.assert_array_equal(embeddings[part], expected[part])
    mean = expected.mean(1, keepdims=True, dtype=np.float64)
    np.testing.assert_allclose(embeddings.mean()[everything], mean, rtol=1e-6, atol=1e-7)
    centered = embeddings - embeddings.mean()
    np.testing.assert_allclose((centered + embeddings.mean())[everything], expected, atol=1e-6)
    deviations = expected - mean
    products = (deviations @ deviations.transpose(0, 2, 1))[part]
    np.testing.assert_allclose(centered.inner_products(centered, part, torch.float64), products, atol=1e-5)
    np.testing.assert_allclose(centered.squared_norms(part, torch.float64), np.einsum("pii->pi", products), atol=1e-5)
    order = np.arange(n)[::-1].copy()
    np.testing.assert_array_equal(embeddings.images(order)[part], expected[part][:, order])
    twice = PatchEmbeddings.concatenate([embeddings, embeddings.images(order)])
    np.testing.assert_array_equal(twice[part][:, n:], expected[part][:, order])


def test_a_layer_that_lost_all_channels_still_counts_for_nothing_else():
    features = Features((torch.randn(3, 0, 8, 8), torch.randn(3, 4, 4, 4)), (32, 32))
    embeddings = PatchEmbeddings.of(features)
    assert (embeddings.grid, embeddings.D) == ((8, 8), 4)
    expected = interpolate(features.maps[1], (8, 8), mode="nearest").flatten(2).permute(2, 0, 1)
    np.testing.assert_array_equal(embeddings[slice(None)], expected)
