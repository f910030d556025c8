from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.scattering import first_order_filters, second_order_filters, wavelets
from padim_zoo.core.errors import InputError
from padim_zoo.registry import backbones


@pytest.fixture(scope="module")
def scattering() -> Backbone:
    return backbones.create("scattering")


def test_the_same_filters_on_every_machine(scattering: Backbone) -> None:
    assert scattering.weights_hash == "b0bd58eddfe12598"
    assert scattering.weights_source == "builtin"
    assert backbones.create("scattering", weights=scattering.weights_source).weights_hash == scattering.weights_hash


def test_listing_holds_to_the_model_and_says_that_it_is_not_trained(scattering: Backbone) -> None:
    entry = backbones.entry("scattering")
    for key in ("layers", "channels", "strides", "default_n_components"):
        assert entry.metadata[key] == getattr(scattering, key)
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
def test_any_size_of_image(scattering: Backbone, height: int, width: int) -> None:
    maps = scattering(torch.rand(2, 3, height, width))
    grids = [tuple(layer.shape[2:]) for layer in maps]
    assert grids == [(-(-height // stride), -(-width // stride)) for stride in scattering.strides]
    assert all(torch.isfinite(layer).all() for layer in maps)


def test_a_flat_image_has_color_only(scattering: Backbone) -> None:
    for layer in scattering(torch.full((1, 3, 64, 64), 0.7)):
        assert torch.allclose(layer[0, :1], torch.tensor((0.7 - 0.5) / 0.25 * np.sqrt(3)).float(), atol=1e-4)
        assert layer[0, 1:3].abs().max() < 1e-4
        assert layer[0, 3:].abs().max() < 5e-3  # rounding, through a square root


def test_a_layer_alone_is_the_layer_of_all(scattering: Backbone) -> None:
    images = torch.rand(1, 3, 40, 40)
    [alone] = backbones.create("scattering", layers=["scale2"])(images)
    assert torch.equal(alone, scattering(images)[1])


def test_weights_of_other_origins(scattering: Backbone, tmp_path: Path) -> None:
    random = backbones.create("scattering", weights="none")
    assert random.weights_source == "none"
    assert random.weights_hash != scattering.weights_hash
    path = tmp_path / "mine.safetensors"
    save_file(random.state_in_use(), path)
    assert backbones.create("scattering", weights=str(path)).weights_hash == random.weights_hash
    assert backbones.create("scattering", weights=scattering.state_in_use()).weights_hash == scattering.weights_hash


@pytest.mark.parametrize("layers", [["layer1"], [], ["scale1", "scale1"]])
def test_unknown_layers(layers: list[str]) -> None:
    with pytest.raises(InputError, match=r"scattering cannot take the layers .*: expected one or more of scale1"):
        backbones.create("scattering", layers=layers)
