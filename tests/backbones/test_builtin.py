from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.builtin import first_order_filters, second_order_filters, wavelets
from padim_zoo.errors import InputError
from padim_zoo.registry import backbones


@pytest.fixture(scope="module")
def builtin() -> Backbone:
    return backbones.create("builtin")


def test_the_same_filters_on_every_machine(builtin: Backbone) -> None:
    assert builtin.weights_hash == "3f59626405de31b9"
    assert builtin.weights_source == "builtin"
    assert backbones.create("builtin", weights=builtin.weights_source).weights_hash == builtin.weights_hash


def test_listing_holds_to_the_model_and_says_that_it_is_not_trained(builtin: Backbone) -> None:
    entry = backbones.entry("builtin")
    for key in ("layers", "channels", "strides", "default_dims"):
        assert entry.metadata[key] == getattr(builtin, key)
    assert "not trained" in entry.summary
    assert entry.metadata["weights_offline"] is True


def test_filters_see_no_constant_and_their_own_orientation_most() -> None:
    assert np.abs(wavelets(7, 6, 4.0).sum((1, 2))).max() < 1e-12
    assert np.abs(first_order_filters().sum((2, 3))).max() < 1e-12
    assert second_order_filters().shape == (96, 1, 5, 5)
    y, x = np.mgrid[:7, :7]
    for orientation, angle in enumerate(np.arange(6) * np.pi / 6):
        grating = np.exp(2j * np.pi / 4 * (x * np.cos(angle) + y * np.sin(angle)))
        responses = np.abs((wavelets(7, 6, 4.0) * grating).sum((1, 2)))
        energies = np.hypot(responses[::2], responses[1::2])
        assert energies.argmax() == orientation


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 19), (64, 48)])
def test_any_size_of_image(builtin: Backbone, height: int, width: int) -> None:
    maps = builtin(torch.rand(2, 3, height, width))
    grids = [tuple(layer.shape[2:]) for layer in maps]
    assert grids == [(-(-height // stride), -(-width // stride)) for stride in builtin.strides]
    assert all(torch.isfinite(layer).all() for layer in maps)


def test_a_flat_image_has_colour_only(builtin: Backbone) -> None:
    for layer in builtin(torch.full((1, 3, 64, 64), 0.7)):
        assert torch.allclose(layer[0, :1], torch.tensor((0.7 - 0.5) / 0.25 * np.sqrt(3)).float(), atol=1e-4)
        assert layer[0, 1:3].abs().max() < 1e-4
        assert layer[0, 3:].abs().max() < 5e-3  # rounding, through a square root


def test_a_layer_alone_is_the_layer_of_all(builtin: Backbone) -> None:
    images = torch.rand(1, 3, 40, 40)
    [alone] = backbones.create("builtin", layers=["scale2"])(images)
    assert torch.equal(alone, builtin(images)[1])


def test_weights_of_other_origins(builtin: Backbone, tmp_path: Path) -> None:
    random = backbones.create("builtin", weights="none")
    assert random.weights_source == "none"
    assert random.weights_hash != builtin.weights_hash
    path = tmp_path / "mine.safetensors"
    save_file(random.state_in_use(), path)
    assert backbones.create("builtin", weights=str(path)).weights_hash == random.weights_hash
    assert backbones.create("builtin", weights=builtin.state_in_use()).weights_hash == builtin.weights_hash


@pytest.mark.parametrize("layers", [["layer1"], [], ["scale1", "scale1"]])
def test_unknown_layers(layers: list[str]) -> None:
    with pytest.raises(InputError, match=r"builtin has no layers .*: expected different ones of scale1"):
        backbones.create("builtin", layers=layers)
