"""One matrix per axis against torch's bilinear interpolation and scipy's Gaussian filter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from padim_zoo.features.anomaly_map import anomaly_maps


@settings(max_examples=60, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    image=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    sigma=st.sampled_from([0, 0.05, 0.7, 4, 11.5]),
    edges=st.sampled_from([("symmetric", "reflect"), ("reflect", "mirror")]),
)
def test_equals_bilinear_upsampling_then_gaussian_blur(grid, image, sigma, edges):
    distances = torch.rand(2, *grid, dtype=torch.float64) * 30
    expected = interpolate(distances[:, None], image, mode="bilinear", align_corners=False)[:, 0].numpy()
    ours, scipys = edges
    if sigma:
        expected = np.stack([gaussian_filter(one, sigma, mode=scipys, truncate=4.0) for one in expected])
    np.testing.assert_allclose(anomaly_maps(distances, image, sigma, ours), expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("sigma", [0, 4.0, 40.0])
@pytest.mark.parametrize("image", [(700, 513), (256, 1031)], ids=str)
def test_large_maps_in_blocks_are_those_of_whole_products(sigma: float, image: tuple[int, int]) -> None:
    distances = torch.rand(2, 44, 61) * 30
    expected = interpolate(distances[:, None].double(), image, mode="bilinear", align_corners=False)[:, 0].numpy()
    if sigma:
        expected = np.stack([gaussian_filter(one, sigma, mode="reflect", truncate=4.0) for one in expected])
    np.testing.assert_allclose(anomaly_maps(distances, image, sigma), expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("sigma", [0, 4.0])
def test_a_constant_map_stays_constant(sigma):
    maps = anomaly_maps(torch.full((1, 7, 5), 3.0), (56, 40), sigma)
    np.testing.assert_allclose(maps, 3.0, rtol=1e-6)
