"""The installed plugin is found, keeps the contract, and gives the frequencies that it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from padim_zoo.plugin import backbones, check_backbone


def test_the_installed_package_registers_it() -> None:
    assert backbones.entry("dct").source == "plugin padim-zoo-example-backbone"


@pytest.mark.parametrize("weights", ["default", "none"])
def test_it_keeps_the_contract(weights: str) -> None:
    check_backbone("dct", weights=weights)


def test_a_layer_is_the_cosine_transform_of_blocks() -> None:
    backbone = backbones.create("dct", layers=("fine",))
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    [found] = backbone(image)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    pixels = torch.nn.functional.pad((image[0] - mean) / std, (2, 2, 2, 2)).numpy()
    for row, column in ((0, 0), (2, 3), (7, 7)):
        block = pixels[:, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
        transformed = dctn(block, axes=(1, 2)) / 4 / 8  # scipy doubles each sum
        wanted = [transformed[:, u, v] for u in range(5) for v in range(5) if u + v <= 4]
        expected = np.log(np.abs(np.stack(wanted, axis=1)).reshape(-1) + 0.1)
        np.testing.assert_allclose(found[0, :, row, column].numpy(), expected, rtol=1e-4, atol=1e-5)
