from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import fx, nn

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.cpu import onednn_fusion as fusion
from padim_zoo.backbones.cpu.onednn_fusion import FusedConvolution, fuse_activations

EXAMPLE = torch.linspace(-2, 2, 3 * 32 * 32).reshape(1, 3, 32, 32)


class Residual(nn.Module):
    """Every case at once: a ReLU after a convolution, after a sum, a sum without one, a map that is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.last = (nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8, 8))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        one = self.relu(self.first(images))
        two = self.second(one)
        two += one
        two = self.relu(two)
        three = self.third(two)
        four = torch.relu(three) + three
        return [one, two, four, one + self.last(four)]


def fused_in(network: nn.Module) -> list[bool]:
    """For each fused convolution whether it has a ReLU."""
    return [module.relu for module in network.modules() if isinstance(module, FusedConvolution)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_same_maps(dtype: torch.dtype, size: tuple[int, int], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    network = Residual().eval().requires_grad_(False).to(memory_format=torch.channels_last)
    before = copy.deepcopy(network).to(dtype)
    fused = fuse_activations(network, EXAMPLE, "0")
    if fusion._fused is None:
        pytest.skip("torch was built without oneDNN")
    assert sorted(fused_in(fused)) == [False, True, True]  # the third convolution is read twice
    images = torch.randn(3, 3, *size).to(dtype, memory_format=layout)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    expected = before(images)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            for one, other in zip(expected, fused.to(dtype)(images), strict=True):
                assert torch.allclose(other, one, atol=tolerance, rtol=tolerance)


def test_a_network_is_compared_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    if fusion._fused is None:
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(fusion, "_agreed", set())
    compared, scale, agree = [], [1.0], fusion._agree
    monkeypatch.setattr(fusion, "_agree", lambda *maps: compared.append(maps) or agree(*maps))

    class Shifted(Residual):
        """Has a constant that its hash does not tell."""

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [maps + torch.ones(1) for maps in super().forward(images)]

    class Scaled(Residual):
        """Has a number in its code."""

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [maps * scale[-1] for maps in super().forward(images)]

    def comparisons(kind: type[Residual], weights_hash: str) -> int:
        before = len(compared)
        scale.append(scale[-1] + 1)
        assert fused_in(fuse_activations(kind().eval(), EXAMPLE, weights_hash))
        return len(compared) - before

    assert [comparisons(Residual, weights_hash) for weights_hash in "001"] == [2, 0, 2]
    assert [comparisons(Shifted, "2") for _ in range(2)] == [2, 2]
    assert [comparisons(Scaled, "3") for _ in range(2)] == [2, 2]


@pytest.mark.parametrize("name", ["resnet18", "builtin", "timm/resnet10t"])
def test_real_networks_are_fused(name: str) -> None:
    if fusion._fused is None:
        pytest.skip("torch was built without oneDNN")
    backbone = registry.backbones.create(name, weights="default" if name == "builtin" else "none")
    assert len(fused_in(backbone.network)) >= 9


def test_what_cannot_be_traced_or_differs_stays_as_it_is() -> None:
    class Branches(Residual):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return super().forward(images) if images.mean() > -9 else []

    class Constant(Residual):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [maps * float(fusion_calls()) for maps in super().forward(images)]

    calls = iter(range(1, 100))

    def fusion_calls() -> int:
        return next(calls)

    for network in (Branches().eval(), Constant().eval()):
        assert fuse_activations(network, EXAMPLE, "0") is network


def test_a_map_that_is_added_to_all_images_is_repeated() -> None:
    """The fused operator would read what lies behind a map that is smaller than the result."""

    class OneForAll(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = (nn.Conv2d(3, 8, 3, padding=1, stride=2) for _ in range(3))

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            for_all = self.third(images[:1])
            mean = self.second(images).mean((2, 3), keepdim=True)
            return [torch.relu(self.first(images) + for_all), for_all * mean]

    torch.manual_seed(0)
    network = OneForAll().eval().requires_grad_(False).to(memory_format=torch.channels_last)
    fused = fuse_activations(network, EXAMPLE, "0")
    images = torch.randn(4, 3, 48, 32).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for one, other in zip(network(images), fused(images), strict=True):
            assert torch.allclose(other, one, atol=1e-5)
    lone = FusedConvolution.of(network.first, True)
    other = torch.randn(1, 8, 24, 16).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.allclose(lone(images, other), torch.relu(network.first(images) + other), atol=1e-5)
        assert lone._shape_of_result(images) == network.first(images).shape


def test_networks_at_work_in_another_thread_are_not_traced() -> None:
    class Slow(Residual):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            if isinstance(images, fx.Proxy):  # now nn.Module's methods are those of torch.fx
                with ThreadPoolExecutor(1) as pool:
                    found = pool.submit(at_work, EXAMPLE).result()
                assert all(map(torch.equal, found, expected))
                seen.append(True)
            return super().forward(images)

    at_work, seen = Residual().eval(), []
    expected = at_work(EXAMPLE)
    fuse_activations(Slow().eval().to(memory_format=torch.channels_last), EXAMPLE, "0")
    assert seen


def test_a_graph_of_the_network_has_ordinary_convolutions() -> None:
    backbone = Backbone(Residual(), name="odd", layers="abcd", strides=[1] * 4, state={}, weights_source="none")
    images = torch.rand(2, 3, 32, 32)
    exported = torch.export.export(backbone, (images,))
    assert "mkldnn" not in str(exported.graph)
    for expected, found in zip(backbone(images), exported.module()(images), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


def test_images_that_pass_a_few_at_a_time_give_the_maps_of_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = registry.backbones.create("builtin")
    images = torch.rand(5, 3, 64, 64)
    together = backbone.compute(images)
    monkeypatch.setattr("padim_zoo.backbones.backbone.AT_ONCE_PIXELS", 2 * 64 * 64)
    assert backbone.images_at_once(64, 64) == 2
    for expected, found in zip(together, backbone(images), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights_are_those_of_now(dtype: torch.dtype) -> None:
    if fusion._fused is None or fusion._pack is None:
        pytest.skip("torch was built without oneDNN")
    torch.manual_seed(0)
    network = Residual().eval().requires_grad_(False).to(memory_format=torch.channels_last)
    plain, fused = copy.deepcopy(network).to(dtype), fuse_activations(network, EXAMPLE, "0").to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2

    def same(images: torch.Tensor, fused: nn.Module = fused) -> bool:
        return all(
            torch.allclose(one, other, atol=tolerance, rtol=tolerance)
            for one, other in zip(plain(images), fused(images), strict=True)
        )

    small, large = (torch.randn(2, 3, *size).to(dtype, memory_format=torch.channels_last) for size in [(8, 8), (24, 9)])
    with torch.inference_mode():
        assert all(same(images) for images in (small, large, small[:1], large))
    with torch.no_grad():
        fused.first.weight.mul_(-1)
        plain.first.weight.mul_(-1)
        assert same(large)
        assert same(large, copy.deepcopy(fused))
        fused.first.weight = nn.Parameter(plain.last.weight[:, :3].contiguous(memory_format=torch.channels_last))
        plain.first.weight = fused.first.weight
        assert same(large)
    assert not any(name.endswith("packed") for name in fused.state_dict())
