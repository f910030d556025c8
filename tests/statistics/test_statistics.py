"""Moments against samples: in chunks, merged, about any point, for every estimator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian_oracle import embeddings_of, samples_of
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.registry import estimators
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples, Statistics

EVERYTHING = slice(None)


def literal_statistics(values: np.ndarray) -> dict[str, np.ndarray]:
    """Of samples (n, P, D), one image after the other."""
    deviations = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    return {
        "mean": values.mean(0, dtype=np.float64),
        "scatter": sum(np.einsum("pd,pe->pde", one, one) for one in deviations),
        "squares": sum(one**2 for one in deviations),
        "sum_fourth_powers": sum((one**2).sum(1) ** 2 for one in deviations),
    }


def assert_equal_statistics(found: Statistics, expected: dict[str, np.ndarray], rtol: float = 1e-5) -> None:
    np.testing.assert_allclose(found.mean[EVERYTHING][:, 0], expected["mean"], rtol=rtol, atol=1e-6)
    for name in ("scatter", "squares", "sum_fourth_powers"):
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(
            getattr(found, name)(EVERYTHING), expected[name], rtol=rtol, atol=1e-6 * scale + 1e-9, err_msg=name
        )


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    D=st.integers(1, 7),
    offset=st.sampled_from([0.0, 3.0, 40.0]),
    seed=st.integers(0, 99),
)
def test_chunks_merge_to_the_moments_of_all(sizes, D, offset, seed):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(sum(sizes), 3, D)) + offset * rng.normal(size=(3, D))).astype(np.float32)
    chunks = [embeddings_of(chunk) for chunk in np.split(values, np.cumsum(sizes)[:-1])]
    expected = literal_statistics(values)
    assert_equal_statistics(Samples(embeddings_of(values)), expected)
    reference = chunks[0].mean()
    one_shift = [Moments.of(chunk, reference) for chunk in chunks]
    own_shifts = [Moments.of(chunk, chunk.mean()) for chunk in chunks]
    for moments in (one_shift, one_shift[::-1], own_shifts, own_shifts[::-1]):
        total = moments[0]
        for more in moments[1:]:
            total = total + more
        assert total.n == sum(sizes)
        assert_equal_statistics(total, expected)


def test_moments_of_layers_of_several_resolutions_have_their_mean(draw):
    generator = torch.Generator().manual_seed(0)
    maps = (torch.randn(6, 3, 4, 4, generator=generator), torch.randn(6, 5, 2, 2, generator=generator))
    embeddings = PatchEmbeddings.of(Features(maps, (16, 16)))
    moments = Moments.of(embeddings, embeddings.images(np.array([0])))
    np.testing.assert_allclose(moments.mean[EVERYTHING], embeddings.mean()[EVERYTHING], atol=1e-6)
    for found, expected in zip(moments.mean.layers, embeddings.mean().layers, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", estimators.names())
@pytest.mark.parametrize("n", [5, 40])
def test_every_estimator_gives_the_same_from_moments(draw, name, n):
    train, test = draw(n, 4, 12), embeddings_of(draw(6, 4, 12, seed=1))
    half = n // 2
    parts = [embeddings_of(train[:half]), embeddings_of(train[half:])]
    moments = Moments.of(parts[0], parts[0].mean()) + Moments.of(parts[1], parts[1].mean())
    from_samples = estimators.create(name).fit(samples_of(train)).squared_distances(test)
    from_moments = estimators.create(name).fit(moments).squared_distances(test)
    np.testing.assert_allclose(from_moments, from_samples, rtol=2e-5)
