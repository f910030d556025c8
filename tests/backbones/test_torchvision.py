from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import fx, nn

from padim_zoo.backbones import torchvision as from_torchvision
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.errors import InputError
from padim_zoo.registry import backbones

RESNET18 = "resnet18_imagenet1k_v1_layers1-3.safetensors"


def plain_maps(model: nn.Module, images: torch.Tensor, layers: list[str]) -> list[torch.Tensor]:
    """The oracle: the whole, unfolded model in its own layout, and hooks on its layers."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    maps = {}
    for layer in layers:
        model.get_submodule(layer).register_forward_hook(
            lambda _m, _i, output, layer=layer: maps.update({layer: output})
        )
    with torch.no_grad():
        model.eval()((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    return [maps[layer] for layer in layers]


@pytest.fixture(scope="module")
def resnet18() -> Backbone:
    return backbones.create("resnet18", weights="none")


def trained(architecture: str) -> nn.Module:
    """A model whose batch norms are far from the identity."""
    model = torchvision.models.get_model(architecture)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.1)
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return model


def test_networks_at_work_in_another_thread_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, example, seen = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.rand(1, 3, 8, 8), []
    expected = at_work(example)
    build = from_torchvision._build

    def slow(architecture: str) -> nn.Module:
        model = build(architecture)
        usual = type(model)

        class Slow(usual):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                if isinstance(images, fx.Proxy):  # now nn.Module's methods are those of torch.fx
                    with ThreadPoolExecutor(1) as pool:
                        seen.append(torch.equal(pool.submit(at_work, example).result(), expected))
                return usual.forward(self, images)

        model.__class__ = Slow
        return model

    monkeypatch.setattr(from_torchvision, "_build", slow)
    from_torchvision.create("resnet18", weights="none")
    assert seen == [True]


def test_weights_of_a_model_fit_whatever_buffers_it_has() -> None:
    state = torchvision.models.get_model("maxvit_t").state_dict()
    assert set(from_torchvision.create("maxvit_t", ["stem", "blocks.0"], weights=state).state_in_use()) <= set(state)


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        ("resnet18", None),
        ("resnet18", ["layer4", "layer2"]),
        ("resnet50", ["layer1", "layer2"]),
        ("torchvision/mobilenet_v3_small", None),
        ("torchvision/squeezenet1_1", ["features.6", "features.3"]),
    ],
)
def test_maps_are_those_of_the_whole_unfolded_model(architecture: str, layers: list[str] | None) -> None:
    model = trained(architecture.removeprefix("torchvision/"))
    backbone = backbones.create(architecture, layers=layers, weights=model.state_dict())
    images = torch.rand(2, 3, 64, 96)
    expected = plain_maps(model, images, list(backbone.layers))
    found = backbone(images)
    assert backbone.channels == tuple(layer.shape[1] for layer in expected)
    assert backbone.strides == tuple(2 ** round(math.log2(64 / layer.shape[2])) for layer in expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "torchvision/squeezenet1_1"])
def test_listing_holds_to_the_model(name: str) -> None:
    listed = backbones.entry(name).metadata
    backbone = backbones.create(name, weights="none")
    for key in ("layers", "channels", "strides", "default_n_components"):
        assert listed[key] == getattr(backbone, key)
    assert listed["weights_offline"] is False


@pytest.mark.parametrize("name", ["resnet34", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"])
def test_paper_layers_and_dims(name: str) -> None:
    listed = backbones.entry(name).metadata
    channels = (64, 128, 256) if name == "resnet34" else (256, 512, 1024)
    assert listed["layers"] == ("layer1", "layer2", "layer3")
    assert (listed["channels"], listed["strides"]) == (channels, (4, 8, 16))
    assert listed["default_n_components"] == (100 if name == "resnet34" else 550)


def test_nothing_is_kept_past_the_last_layer(resnet18: Backbone) -> None:
    assert not any(name.startswith(("layer4", "fc")) for name in resnet18.state_in_use())
    assert not any("layer4" in name or "fc" in name for name, _ in resnet18.named_parameters())


def test_frozen(resnet18: Backbone) -> None:
    resnet18.train()
    assert not any(module.training for module in resnet18.modules())
    assert not any(parameter.requires_grad for parameter in resnet18.parameters())
    assert not resnet18(torch.rand(1, 3, 32, 32, requires_grad=True))[0].requires_grad


def test_an_image_gives_the_same_in_any_batch(resnet18: Backbone) -> None:
    images = torch.rand(5, 3, 64, 64)
    together = resnet18(images)
    alone = [resnet18(image[None]) for image in images]
    for layer, maps in enumerate(together):
        expected = torch.cat([maps_of_one[layer] for maps_of_one in alone])
        assert (maps - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 5), (33, 100)])
def test_any_size_of_image(resnet18: Backbone, height: int, width: int) -> None:
    grids = [tuple(layer.shape[2:]) for layer in resnet18(torch.rand(1, 3, height, width))]
    assert grids == [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16)]


def test_random_weights_depend_on_nothing_else(resnet18: Backbone) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = backbones.create("resnet18", weights="none", layers=["layer1"])
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in again.state_in_use().items():
        assert torch.equal(tensor, resnet18.state_in_use()[name])
    # Held fixed: other machines and other versions have to give the same numbers.
    assert resnet18.weights_hash == "ff4dc7b6dc8028d2"


def test_hash_is_of_the_tensors_in_use() -> None:
    state = trained("resnet18").state_dict()
    first = backbones.create("resnet18", weights=state, layers=["layer1"])
    state["layer2.0.conv1.weight"] += 1
    assert backbones.create("resnet18", weights=state, layers=["layer1"]).weights_hash == first.weights_hash
    state["layer1.0.bn1.bias"][0] += 1e-3
    assert backbones.create("resnet18", weights=state, layers=["layer1"]).weights_hash != first.weights_hash


def test_restored_from_its_own_tensors() -> None:
    backbone = backbones.create("resnet18", weights=trained("resnet18").state_dict())
    again = backbones.create("resnet18", weights=backbone.state_in_use())
    assert (again.weights_hash, again.weights_source) == (backbone.weights_hash, "embedded")
    images = torch.rand(1, 3, 64, 64)
    assert all(map(torch.equal, again(images), backbone(images)))


def test_real_weights_without_the_later_layers(weights: Path) -> None:
    backbone = backbones.create("resnet18", weights=str(weights / RESNET18))
    assert backbone.weights_source == str(weights / RESNET18)
    model = torchvision.models.resnet18()
    model.load_state_dict(load_file(weights / RESNET18), strict=False)
    images = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(backbone(images), plain_maps(model, images, list(backbone.layers)), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    with pytest.raises(InputError, match=r"does not fit resnet18: 25 missing \(layer4\.0\.conv1\.weight"):
        backbones.create("resnet18", weights=str(weights / RESNET18), layers=["layer4"])


def test_default_weights_come_from_the_cache_without_a_network(tmp_path: Path) -> None:
    assert backbones.entry("resnet18").metadata["weights_offline"] is False
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    state = trained("resnet18").state_dict()
    torch.save(state, file)
    assert backbones.entry("resnet18").metadata["weights_offline"] is True
    found = backbones.create("resnet18")
    assert found.weights_source == "default"
    assert torch.equal(found.state_in_use()["conv1.weight"], state["conv1.weight"])


def test_no_network_is_told_in_one_line() -> None:
    with pytest.raises(InputError, match=r"default weights of resnet18 .*no route.*--weights none.*builtin") as caught:
        backbones.create("resnet18")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layers", [["layer9"], [], ["layer1", "layer1"], ["conv2"]])
def test_unknown_layers(layers: list[str]) -> None:
    with pytest.raises(InputError, match=r"resnet18 cannot take the layers .*: expected one or more of .*layer1"):
        backbones.create("resnet18", layers=layers, weights="none")


def test_models_without_maps_say_so() -> None:
    with pytest.raises(InputError, match="no maps at strides 4, 8 and 16"):
        backbones.create("torchvision/vit_b_16", weights="none")
    assert backbones.entry("torchvision/vit_b_16").metadata["layers"] == ()


def test_unknown_models_are_compared_with_the_known() -> None:
    with pytest.raises(InputError, match="did you mean torchvision/wide_resnet50_2"):
        backbones.create("torchvision/wide_resnet50", weights="none")
