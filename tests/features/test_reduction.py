"""What is drawn from all channels: without repetition, by the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from padim_zoo.core.errors import InputError
from padim_zoo.features.features import Features, RandomChannels, draw_reduction


def choose_channels(channels: list[int], n_components: int, seed: int) -> tuple[np.ndarray, ...]:
    reduction = draw_reduction("random", channels, n_components, seed)
    assert isinstance(reduction, RandomChannels)
    return reduction.channels


@given(channels=st.lists(st.integers(1, 40), min_size=1, max_size=4), seed=st.integers(0, 50), data=st.data())
def test_channels_are_drawn_without_repetition_and_by_the_seed_alone(channels, seed, data):
    n_components = data.draw(st.integers(1, sum(channels)))
    drawn = choose_channels(channels, n_components, seed)
    assert sum(map(len, drawn)) == n_components
    for kept, available in zip(drawn, channels, strict=True):
        assert np.all(np.diff(kept) > 0)
        assert np.all((kept >= 0) & (kept < available))
    for kept, again in zip(drawn, choose_channels(channels, n_components, seed), strict=True):
        np.testing.assert_array_equal(kept, again)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_channels_drawn_are_taken_in_any_layout(layout: torch.memory_format) -> None:
    layer = torch.rand(2, 12, 5, 7).to(memory_format=layout)
    reduction = draw_reduction("random", [12], 5, 0)
    assert isinstance(reduction, RandomChannels)
    (taken,) = reduction.apply(Features((layer,), (10, 14))).maps
    assert torch.equal(taken, layer[:, reduction.channels[0]])


def test_another_seed_draws_other_channels():
    first, second = (np.concatenate(choose_channels([64, 128, 256], 100, seed)) for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("n_components", [0, -1, 449])
def test_impossible_dims_name_the_range(n_components):
    with pytest.raises(InputError, match=r"448 channels"):
        choose_channels([64, 128, 256], n_components, 0)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(InputError, match="leading, random, orthogonal"):
        draw_reduction("pca", [64], 10, 0)
