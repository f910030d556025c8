"""Networks trained on pasted pieces: what is learned, kept, resumed, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from padim_zoo import InputError
from padim_zoo.backbones.trainable import trainable_copy
from padim_zoo.finetune.cutpaste import ThreeWay
from padim_zoo.finetune.training import TrainingRecipe, train
from padim_zoo.registry import backbones

SMALL: dict[str, Any] = {"epochs": 6, "learning_rate": 1e-3, "train_batch": 4, "patience": 10, "held_out": 0.25}


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet10t", "timm/mobileone_s0", "builtin"])
def test_a_copy_to_train_computes_what_the_backbone_does(name):
    backbone = backbones.create(name, weights="default" if name == "builtin" else "none")
    network, named = trainable_copy(backbone)
    pixels = torch.rand(2, 3, 64, 64)
    normalized = (pixels - torch.tensor(backbone.mean).view(1, 3, 1, 1)) / torch.tensor(backbone.std).view(1, 3, 1, 1)
    for found, expected in zip(network(normalized), backbone(pixels), strict=True):
        torch.testing.assert_close(found.detach(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert backbone.state_in_use().keys() <= named.state_dict().keys()
    assert all(parameter.requires_grad for parameter in named.parameters())


def test_the_three_ways(stripes):
    made, truth = ThreeWay([1]).examples(stripes[0], np.random.default_rng(0))
    assert torch.equal(made[0], stripes[0])
    changed = [(picture != stripes[0]).any(0).float().mean() for picture in made[1:]]
    assert changed[0] > changed[1] > 0
    assert truth.tolist() == [0, 1, 2]


def test_training_lowers_the_held_out_loss(stripes):
    backbone = backbones.create("resnet18", layers=["layer1", "layer2"], weights="none")
    before = backbone.weights_hash, backbone.state_in_use()["conv1.weight"].clone()
    told: list[int] = []
    found = train(backbone, stripes, TrainingRecipe(**SMALL, report=lambda epoch, *_: told.append(epoch)))
    losses, best = found.report["losses"], found.report["best_epoch"]
    assert min(losses) == losses[best] < 0.9 * losses[0]
    assert found.report["accuracies"][best] > found.report["chance"] + 0.1
    assert told == list(range(1, len(told) + 1))
    assert len(found.held_out) == 4
    assert found.state.keys() == backbone.state_in_use().keys()
    assert not torch.equal(found.state["conv1.weight"], before[1])
    assert (backbone.weights_hash, True) == (before[0], torch.equal(backbone.state_in_use()["conv1.weight"], before[1]))
    for name, tensor in found.state.items():  # batch norms are as they were
        if "bn" in name or "downsample.1" in name:
            assert torch.equal(tensor, backbone.state_in_use()[name])


def test_a_seed_gives_the_same_weights_and_frozen_parts_keep_theirs(stripes):
    backbone = backbones.create("builtin")
    recipe = {**SMALL, "epochs": 2, "freeze": ("stem", "stages.0")}
    first, again = (train(backbone, stripes, TrainingRecipe(**recipe)).state for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], backbone.state_in_use()[name])}
    assert changed
    assert not any(name.startswith(("stem.", "stages.0.")) for name in changed)
    other = train(backbone, stripes, TrainingRecipe(**{**recipe, "seed": 1})).state
    assert not torch.equal(first["widen.weight"], other["widen.weight"])


class CutOff(Exception):
    """What ends a training in its middle."""


def test_a_training_that_was_cut_off_goes_on_as_if_it_had_not_been(stripes, tmp_path):
    backbone = backbones.create("builtin", layers=["stage1"])
    whole = train(backbone, stripes, TrainingRecipe(**{**SMALL, "epochs": 4}))

    def cut_off(epoch: int, *_: object) -> None:
        if epoch == 3:
            raise CutOff

    path = tmp_path / "training.safetensors"
    options = {**SMALL, "epochs": 4, "checkpoint": str(path)}
    with pytest.raises(CutOff):  # while the third epoch is not yet in the checkpoint
        train(backbone, stripes, TrainingRecipe(**options, report=cut_off))
    told: list[int] = []
    rest = train(backbone, stripes, TrainingRecipe(**options, report=lambda epoch, *_: told.append(epoch)))
    assert told == [3, 4]
    assert rest.report == whole.report
    assert all(torch.equal(rest.state[name], tensor) for name, tensor in whole.state.items())
    with pytest.raises(InputError, match="checkpoint of another training"):
        train(backbone, stripes[:8], TrainingRecipe(**options))
    path.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="is not a checkpoint of a fine-tuning"):
        train(backbone, stripes, TrainingRecipe(**options))


@pytest.mark.parametrize("rate", [1e-12, 1.0])
def test_a_network_that_learns_nothing_is_no_weights_file(stripes, rate):
    backbone = backbones.create("resnet18", layers=["layer1"], weights="none")
    with pytest.raises(InputError, match=r"the training has (not learned|diverged): on 4 held-out images"):
        train(backbone, stripes, TrainingRecipe(**{**SMALL, "epochs": 1, "learning_rate": rate}))


def test_what_adapt_refuses(stripes):
    def refused(message: str, name: str = "builtin", count: int = 8, **settings: Any) -> None:
        with pytest.raises(InputError, match=message):
            train(backbones.create(name), stripes[:count], TrainingRecipe(**settings))

    refused("3 normal images are too few", count=3)
    refused("the backbone scattering cannot be trained", name="scattering")
    refused("learning_rate is 0", learning_rate=0)
    refused("learning_rate is nan", learning_rate=float("nan"))
    refused("learning_rate is 3", learning_rate=3.0)
    refused("epochs is 0: expected a whole number", epochs=0)
    refused("held_out is 2", held_out=2.0)
    refused(r"nothing to freeze is called 'layer1'.*stem", freeze=("layer1",))
    refused("every part of the network is frozen", freeze=("stem", "widen", "stages", "projections"))
