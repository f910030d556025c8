from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.utils.model import reparameterize_model
from torch import nn

from padim_zoo.backbones.timm import FeatureMap, default_layers
from padim_zoo.core.errors import InputError
from padim_zoo.registry import backbones

MOBILEONE = "mobileone_s0_imagenet1k_reparameterized.safetensors"


def plain_maps(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The oracle: all maps of the whole model of timm, neither cut nor folded."""
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        return model.forward_intermediates((images - mean) / std, intermediates_only=True)


@pytest.mark.parametrize(
    ("name", "layers", "strides", "indices"),
    [
        ("mobileone_s0", ("stages.0", "stages.1", "stages.2"), (4, 8, 16), [1, 2, 3]),
        ("resnet18", ("layer1", "layer2", "layer3"), (4, 8, 16), [1, 2, 3]),
        ("convnext_atto", ("stages.0", "stages.1", "stages.2"), (4, 8, 16), [0, 1, 2]),
        ("efficientnet_lite0", ("blocks.1", "blocks.2", "blocks.4"), (4, 8, 16), [1, 2, 3]),
        ("test_vit", ("blocks.1", "blocks.2", "blocks.3"), (16, 16, 16), [1, 2, 3]),
    ],
)
def test_maps_are_those_of_the_whole_unfolded_model(
    name: str, layers: tuple[str, ...], strides: tuple[int, ...], indices: list[int]
) -> None:
    options = {"dynamic_img_size": True} if "vit" in name else {}
    model = timm.create_model(name, **options).eval()
    state = model.state_dict()
    for key, tensor in state.items():
        if key.endswith("running_mean"):
            tensor.normal_(std=0.1)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    backbone = backbones.create(f"timm/{name}", weights=state)
    assert (backbone.layers, backbone.strides) == (layers, strides)
    images = torch.rand(2, 3, 160, 160)
    expected = plain_maps(model, images)
    for ours, theirs in zip(backbone(images), [expected[index] for index in indices], strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()

    listed = backbones.entry(f"timm/{name}").metadata
    for key in ("layers", "channels", "strides", "default_n_components"):
        assert listed[key] == getattr(backbone, key)

    again = backbones.create(f"timm/{name}", weights=backbone.state_in_use())
    assert again.weights_hash == backbone.weights_hash
    assert all(map(torch.equal, again(images[:1]), backbone(images[:1])))


def test_layers_by_name_or_number_in_the_order_asked_for() -> None:
    backbone = backbones.create("timm/resnet18", layers=["layer3", "1"], weights="none")
    assert (backbone.layers, backbone.channels, backbone.strides) == (("layer3", "layer1"), (256, 64), (16, 4))
    assert [layer.shape[1] for layer in backbone(torch.rand(1, 3, 32, 32))] == [256, 64]
    assert not any(name.startswith(("layer4", "fc")) for name in backbone.state_in_use())


@pytest.mark.parametrize("layers", [["layer9"], [], ["layer1", "1"]])
def test_unknown_layers(layers: list[str]) -> None:
    with pytest.raises(InputError, match=r"cannot take the layers .*: expected one or more of act1, layer1, layer2"):
        backbones.create("timm/resnet18", layers=layers, weights="none")


def test_default_layers() -> None:
    def maps(*strides: int) -> list[FeatureMap]:
        return [FeatureMap(str(index), 8, stride) for index, stride in enumerate(strides)]

    assert default_layers(maps(2, 4, 4, 8, 16, 32)) == [2, 3, 4]
    assert default_layers(maps(16, 32, 64)) == [0, 1, 2]
    assert default_layers(maps(*[14] * 24)) == [5, 11, 17]
    assert default_layers(maps(16)) == [0]


def test_transformers_take_any_whole_number_of_patches() -> None:
    backbone = backbones.create("timm/test_vit", weights="none")
    assert [tuple(layer.shape[2:]) for layer in backbone(torch.rand(1, 3, 64, 96))] == [(4, 6)] * 3
    with pytest.raises(InputError, match=r"timm/test_vit cannot take images of 50×64 pixels .*--crop"):
        backbone(torch.rand(1, 3, 50, 64))


def test_too_small_images_are_refused() -> None:
    backbone = backbones.create("timm/convnext_atto", weights="none")
    with pytest.raises(InputError, match="cannot take images of 3×3 pixels"):
        backbone(torch.rand(1, 3, 3, 3))


def test_random_weights_depend_on_nothing_else() -> None:
    hashes = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        hashes.add(backbones.create("timm/test_vit", weights="none").weights_hash)
        assert torch.equal(torch.get_rng_state(), before)
    assert hashes == {"3b52f4258fa3706b"}


def test_real_reparameterised_weights(weights: Path) -> None:
    path = weights / MOBILEONE
    backbone = backbones.create("timm/mobileone_s0", weights=str(path))
    assert "stages.2.0.reparam_conv.weight" in backbone.state_in_use()
    model = reparameterize_model(timm.create_model("mobileone_s0").eval())
    model.load_state_dict(load_file(path))
    images = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(backbone(images), plain_maps(model, images)[1:4], strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    again = backbones.create("timm/mobileone_s0", weights=backbone.state_in_use())
    assert again.weights_hash == backbone.weights_hash
    with pytest.raises(InputError, match=r"does not fit timm/mobileone_s1: \d+ of another shape \(stem.reparam_conv"):
        backbones.create("timm/mobileone_s1", weights=str(path))


def test_no_network_is_told_in_one_line() -> None:
    with pytest.raises(InputError, match=r"default weights of timm/resnet18 .*no route.*--weights none.*builtin"):
        backbones.create("timm/resnet18")


def test_unknown_models_and_tags() -> None:
    with pytest.raises(InputError, match=r"did you mean timm/.*mobileone_s0"):
        backbones.create("timm/mobileone_0")
    with pytest.raises(InputError, match=r"unknown backbone 'timm/resnet18\.no_such_tag'"):
        backbones.create("timm/resnet18.no_such_tag")
    assert backbones.create("timm/resnet18.a1_in1k", weights="none").name == "timm/resnet18.a1_in1k"
