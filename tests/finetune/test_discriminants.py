"""Discriminants against their definition; weights files that bring them along."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from padim_zoo import STFPM, InputError, PaDiM, load
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.progress import open_stages
from padim_zoo.finetune.cutpaste import visibly_pasted
from padim_zoo.finetune.discriminants import DiscriminantRecipe, fit_discriminants
from padim_zoo.registry import backbones

RECIPE = DiscriminantRecipe(components=7, pieces=2, held_out=0.25, seed=3)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return backbones.create("builtin", layers=["stage1", "stage3"])


@pytest.fixture(scope="module")
def state(backbone, stripes) -> dict[str, Tensor]:
    return fit_discriminants(backbone, stripes[:8], RECIPE).state


def maps_of(backbone: Backbone, image: Tensor, layer: int) -> np.ndarray:
    return backbone(image[None].float() / 255)[layer][0].double().numpy()


@pytest.mark.parametrize("layer", [0, 1])
def test_they_are_the_generalized_eigenvectors_of_their_definition(backbone, stripes, state, layer):
    used = fit_discriminants(backbone, stripes[:8], RECIPE).used
    assert len(used) == 6
    maps = np.stack([maps_of(backbone, stripes[index], layer) for index in used])
    channels, rows, columns = maps.shape[1:]
    variation = np.zeros((channels, channels))
    for row, column in np.ndindex(rows, columns):
        variation += np.cov(maps[:, :, row, column].T) / (rows * columns)
    variation += 0.01 * np.trace(variation) / channels * np.eye(channels)
    changes = []
    for index, normal in zip(used, maps, strict=True):
        rng = np.random.default_rng((3, index))
        for pasted in [visibly_pasted(stripes[index], rng) for _ in range(2)]:
            change = maps_of(backbone, pasted.image, layer) - normal
            step = 64 // rows
            for row, column in np.ndindex(rows, columns):
                if (
                    pasted.mask[row * step : (row + 1) * step, column * step : (column + 1) * step].float().mean()
                    > 0.25
                ):
                    vector = change[:, row, column]
                    changes.append(vector / np.sqrt(vector @ np.linalg.solve(variation, vector)))
    values, vectors = scipy.linalg.eigh(np.stack(changes).T @ np.stack(changes) / len(changes), variation)
    name = f"discriminants.{backbone.layers[layer]}"
    weight, bias = state[f"{name}.weight"][:, :, 0, 0].double().numpy(), state[f"{name}.bias"].double().numpy()
    np.testing.assert_allclose(weight @ variation @ weight.T, np.eye(7), atol=1e-3)
    for found, expected in zip(weight, vectors.T[::-1], strict=False):
        sign = np.sign(expected[np.abs(expected).argmax()])
        np.testing.assert_allclose(found, sign * expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(bias, -weight @ maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert (np.diff(values) >= 0).all()


def test_a_backbone_with_them_gives_projected_maps(backbone, stripes, state):
    adapted = backbones.create("builtin", layers=["stage3"], weights=state)
    assert adapted.channels == (7,)
    assert adapted.default_reduction == "leading"
    assert set(adapted.state_in_use()) == {
        name for name in state if "stage1" not in name and "projections.0" not in name
    }
    pixels = stripes[:2].float() / 255
    weight, bias = state["discriminants.stage3.weight"][:, :, 0, 0], state["discriminants.stage3.bias"]
    expected = torch.einsum("kc,nchw->nkhw", weight, backbone(pixels)[1]) + bias[:, None, None]
    torch.testing.assert_close(adapted(pixels)[0], expected, rtol=1e-3, atol=1e-3)
    assert adapted.weights_hash != backbones.create("builtin", layers=["stage3"]).weights_hash


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet10t", "scattering"])
def test_backbones_of_every_source_take_them(stripes, name, tmp_path):
    raw = backbones.create(name, weights="default" if name == "scattering" else "none")
    state = fit_discriminants(raw, stripes[:6], RECIPE).state
    detector = PaDiM(backbones.create(name, weights=state), n_components=9, resize=None, crop=None)
    detector.fit(stripes[:12].permute(0, 2, 3, 1).numpy()).save(tmp_path / "model.safetensors")
    assert detector.build_backbone().channels == (7, 7, 7)
    test = stripes[12:].permute(0, 2, 3, 1).numpy()
    scores = load(tmp_path / "model.safetensors").predict(test).scores
    np.testing.assert_allclose(scores, detector.predict(test).scores, rtol=1e-3)


def test_a_seed_gives_the_same_and_progress_is_told(backbone, stripes, state):
    told: list[str] = []

    class Watched(type(backbone)):
        def forward(self, images: Tensor) -> list[Tensor]:
            told.extend(map(str, open_stages()))
            return super().forward(images)

    watched = copy.copy(backbone)
    watched.__class__ = Watched
    again = fit_discriminants(watched, stripes[:8], RECIPE).state
    stages = ("measuring normal images", "pasting pieces")
    assert told == [f"{stage}: {done} of 6 images" for stage in stages for done in range(6)]
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def test_what_they_refuse(backbone, stripes, state):
    def refused(message: str, images: Tensor = stripes[:8], **settings: Any) -> None:
        with pytest.raises(InputError, match=message):
            fit_discriminants(backbone, images, DiscriminantRecipe(**settings))

    refused("3 normal images are too few", stripes[:3])
    refused("the normal images do not differ in the layer stage1", stripes[:1].expand(5, -1, -1, -1))
    noise = torch.randint(100, 103, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    refused("no pasted piece can be seen in layer stage1", noise.clamp(max=101))
    refused("components is 0", components=0)
    refused("pieces is 1.5", pieces=1.5)
    refused("held_out is 0", held_out=0)
    adapted = backbones.create("builtin", layers=["stage1"], weights=state)
    with pytest.raises(InputError, match="adapted by discriminants already"):
        fit_discriminants(adapted, stripes[:8], RECIPE)
    with pytest.raises(InputError, match="adapted by discriminants already"):
        STFPM(adapted, resize=None, crop=None).fit(stripes[:4].permute(0, 2, 3, 1).numpy()).model_  # noqa: B018
    others = {name.replace("stage1", "stage2"): tensor for name, tensor in state.items()}
    with pytest.raises(InputError, match="projections of the layers stage2, stage3, but none of stage1: choose"):
        backbones.create("builtin", layers=["stage1"], weights=others)
    bad = {**state, "discriminants.stage1.weight": torch.zeros(7, 5, 1, 1)}
    with pytest.raises(InputError, match=r"projections of \[5\] channels, but builtin gives \[48\]"):
        backbones.create("builtin", layers=["stage1"], weights=bad)
    bad = {**state, "discriminants.stage1.weight": torch.zeros(7)}
    with pytest.raises(InputError, match=r"has the shapes \(7,\) and \(7,\): expected \(k, C, 1, 1\)"):
        backbones.create("builtin", layers=["stage1"], weights=bad)
