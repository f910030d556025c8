"""The rows of an image through a network, each once: the features of the whole image, whatever the operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from padim_zoo import registry
from padim_zoo.backbones.backbone import AT_ONCE_PIXELS, Backbone
from padim_zoo.backbones.cpu.rolling import Window
from padim_zoo.core.errors import InputError
from padim_zoo.features.receptive_field import receptive_field
from padim_zoo.features.rolling import RollingBands, rolling_bands, rolling_network
from padim_zoo.features.streaming import Blocks, bytes_per_pixel, plan_blocks


class Toy(nn.Module):
    """Two convolutions with strides, a sum, and an operation in between."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 8, 5, stride=2, padding=2)
            self.second = nn.Conv2d(8, 8, 3, stride=3, padding=2, dilation=2)
            self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.between = between

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.relu(self.first(images))
        second = self.second(self.between(first))
        return [first, self.relu(self.third(second) + second)]


def toy(between: Callable[[Tensor], Tensor]) -> Backbone:
    network = Toy(between)
    return Backbone(
        network, name="toy", layers=("a", "b"), strides=(2, 6), state=network.state_dict(), weights_source="none"
    )


ROLLED: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": nn.Identity(),
    "maxima": nn.MaxPool2d(3, stride=1, padding=1),
    "maxima with gaps": nn.MaxPool2d(3, stride=1, padding=1, dilation=2),
    "a wide border": nn.Conv2d(8, 8, 3, padding=2),
    "means": nn.AvgPool2d(3, stride=1, padding=1),
    "smooth": nn.GELU(),
    "a sum": lambda maps: torch.relu(maps + maps),
}
NOT_ROLLED: dict[str, Callable[[Tensor], Tensor]] = {
    "some channels": lambda maps: torch.cat([maps, maps], 1)[:, 4:12],
    "a mean of all": lambda maps: maps * maps.mean((2, 3), keepdim=True),
    "padding by the size": lambda maps: functional.pad(maps, (0, maps.shape[3] % 2, 0, maps.shape[2] % 2)),
    "rounded up": nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
    "more padding than a window": nn.Conv2d(8, 8, 1, padding=1),
    "means of fewer": nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
}


def of_whole_images(part: Tensor) -> Tensor:
    return part


@pytest.mark.parametrize("kind", ROLLED)
@pytest.mark.parametrize("height", [67, 70, 72])
@pytest.mark.parametrize("rows", [1, 7, 60])
def test_every_operation_height_and_band(kind: str, height: int, rows: int) -> None:
    backbone = toy(ROLLED[kind])
    network = rolling_network(backbone)
    assert network is not None
    images = torch.rand(2, 3, height, 50, generator=torch.Generator().manual_seed(0))
    maps = RollingBands(network, height, rows).maps(backbone, of_whole_images, images)
    for one, other in zip(backbone(images), maps, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", NOT_ROLLED)
def test_other_operations_are_left_to_halos(kind: str) -> None:
    backbone = toy(NOT_ROLLED[kind])
    assert rolling_network(backbone) is None
    assert rolling_bands(backbone, (900, 900)) is None


class EvenSizes(nn.Module):
    """A sum whose two sides are of one size where the image has an even one."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.means = nn.AvgPool2d(2)
        self.colors = nn.Conv2d(3, 8, 1)
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.relu(self.convolution(images) + self.colors(self.means(images)))]


def test_a_network_of_few_sizes_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = EvenSizes()
    backbone = Backbone(
        network, name="toy", layers=("a",), strides=(2,), state=network.state_dict(), weights_source="none"
    )
    assert rolling_network(backbone) is None
    monkeypatch.setattr("padim_zoo.features.rolling.RollingNetwork.of", None)  # not called again
    assert rolling_network(backbone) is None
    assert plan_blocks(backbone, (1024, 1024), "auto", 10**10) is None


class LastMap(Backbone):
    """Gives fewer maps than its network."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images)[-1:]


def test_a_backbone_of_fewer_maps_than_its_network_passes_whole() -> None:
    network = Toy(nn.Identity())
    backbone = LastMap(
        network, name="toy", layers=("a", "b"), strides=(2, 6), state=network.state_dict(), weights_source="none"
    )
    assert receptive_field(backbone) is None
    assert plan_blocks(backbone, (1024, 1024), "auto", 10**10) is None


class ClippedForward(Backbone):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [layer.clamp(max=0.5) for layer in super().forward(images)]


class ClippedCompute(Backbone):
    def compute(self, images: Tensor) -> list[Tensor]:
        return [layer.clamp(max=0.5) for layer in super().compute(images)]


@pytest.mark.parametrize("kind", [ClippedForward, ClippedCompute])
def test_what_a_subclass_computes_is_not_bypassed(kind: type[Backbone]) -> None:
    network = Toy(nn.Identity())
    backbone = kind(
        network, name="toy", layers=("a", "b"), strides=(2, 6), state=network.state_dict(), weights_source="none"
    )
    images = torch.rand(1, 3, 520, 517, generator=torch.Generator().manual_seed(0))
    blocks = plan_blocks(backbone, (520, 517), 3, 10**10)
    assert blocks is not None
    for one, other in zip(backbone(images), blocks.maps(backbone, of_whole_images, images), strict=True):
        assert one.max() == 0.5
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["builtin", "resnet18", "wide_resnet50_2", "torchvision/vgg11_bn", "torchvision/mobilenet_v2"]
)
@pytest.mark.parametrize("size", [(331, 270), (97, 611)], ids=str)
def test_bands_give_the_features_of_the_whole_image(name: str, size: tuple[int, int]) -> None:
    backbone = registry.backbones.create(name, weights="default" if name == "builtin" else "none")
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    bands = rolling_bands(backbone, size, 3)
    assert bands is not None
    assert len(bands) == 3
    maps = bands.maps(backbone, of_whole_images, images)
    for one, other in zip(backbone(images), maps, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize("size", [(8, 64), (64, 8)], ids=str)
def test_an_image_that_is_too_small_is_refused_as_a_whole_one_is(size: tuple[int, int]) -> None:
    backbone = registry.backbones.create("torchvision/vgg11_bn", weights="none")
    images = torch.rand(1, 3, *size)
    blocks = plan_blocks(backbone, size, 2, 10**10)
    assert isinstance(blocks, RollingBands)
    refused = rf"vgg11_bn cannot take images of {size[0]}×{size[1]} pixels \(.+\): choose others by --resize"
    with pytest.raises(InputError, match=refused):
        backbone(images)
    with pytest.raises(InputError, match=refused):
        blocks.maps(backbone, of_whole_images, images)


def test_rows_that_nobody_reads_any_more_are_dropped() -> None:
    backbone = registry.backbones.create("builtin")
    network = rolling_network(backbone)
    assert network is not None
    longest = 0
    values: list[Any] = []

    def parts() -> Any:
        nonlocal longest
        for _ in range(20):
            yield backbone.network_input(torch.rand(1, 3, 32, 64))
            longest = max([longest, *(value._rows.shape[2] for value in values if value._rows is not None)])

    add = network._add

    def spy(of_names: Any, name: str, rows: Tensor) -> None:
        values[:] = of_names.values()
        add(of_names, name, rows)

    network._add = spy  # type: ignore[method-assign]
    try:
        network(parts(), 640)
    finally:
        del network._add
    assert 32 <= longest <= 32 + 8  # a band of the image, or what the first convolution makes of it, and a window


@pytest.mark.parametrize("window", [Window(), Window(3, 2, 1), Window(7, 2, 3), Window(2, 2), Window(5, 3)])
def test_windows_say_what_they_reach(window: Window) -> None:
    for rows in range(8, 30):
        convolved = functional.conv1d(
            torch.zeros(1, 1, rows), torch.ones(1, 1, window.size), stride=window.stride, padding=window.padding
        )
        assert window.results(rows) == convolved.shape[2]
        for first in range(rows):
            ready = window.ready(first)
            assert ready == 0 or window.span(0, ready)[1] <= first
            assert window.span(0, ready + 1)[1] > first


def test_large_images_pass_row_by_row() -> None:
    backbone = registry.backbones.create("builtin")
    assert plan_blocks(backbone, (512, 512), "auto", 10**10) is None
    bands = plan_blocks(backbone, (2048, 2448), "auto", 10**10)
    assert isinstance(bands, RollingBands)
    assert bands.rows * 2448 <= AT_ONCE_PIXELS
    assert bands.rows % 16 == 0
    assert bands.overhead == 1
    assert str(bands) == f"{len(bands)} bands, each pixel once"
    assert len(plan_blocks(backbone, (2048, 2448), 5, 10**10) or ()) == 5
    assert plan_blocks(backbone, (2048, 2448), 1, 10**10) is None


def test_bands_keep_within_the_budget() -> None:
    backbone = registry.backbones.create("builtin")
    stride = max(backbone.strides)

    def budget(pixels: int) -> int:
        return math.ceil(2 * bytes_per_pixel(backbone) * pixels)

    size = (2048, 2448)
    two_strides = plan_blocks(backbone, size, "auto", budget(2 * stride * 2448))
    assert isinstance(two_strides, RollingBands)
    assert two_strides.rows == 2 * stride
    assert isinstance(plan_blocks(backbone, size, "auto", budget(stride * 2448 - 1000)), Blocks)
    # One band is the whole image, and wider than its budget.
    wide = (stride, 30_000)
    assert plan_blocks(backbone, wide, "auto", budget(stride * 30_000)) is None
    assert isinstance(plan_blocks(backbone, wide, "auto", budget(100_000)), Blocks)
