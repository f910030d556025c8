"""Blocks of an image give the features of the whole image, whatever the network, the strides and the size."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.errors import InputError
from padim_zoo.features.blocks import block_maps, cut_axis
from padim_zoo.features.receptive_field import receptive_field
from padim_zoo.features.streaming import FAST_BYTES, Blocks, bytes_per_pixel, images_within, plan_blocks


class Toy(nn.Module):
    """Two convolutions with strides, of which a pass may be added that looks at all of the image."""

    def __init__(self, last: Callable[[Tensor], Tensor], padding: int = 2) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 4, 5, stride=2, padding=padding)
            self.second = nn.Conv2d(4, 4, 3, stride=3, padding=1)
        self.last = last

    def forward(self, images: Tensor) -> list[Tensor]:
        first = torch.relu(self.first(images))
        return [first, self.last(self.second(first))]


IDENTITY = nn.Identity()


def toy(last: Callable[[Tensor], Tensor] = IDENTITY, padding: int = 2) -> Backbone:
    network = Toy(last, padding)
    return Backbone(
        network, name="toy", layers=("a", "b"), strides=(2, 6), state=network.state_dict(), weights_source="none"
    )


def literal_field(backbone: Backbone, length: int, period: int) -> tuple[int, int]:
    """The halo by differences: pixels of a block are changed one row at a time, and what changes is looked at."""
    before = after = 0
    images = torch.rand(1, 3, length, 64, generator=torch.Generator().manual_seed(1))
    whole, middle = backbone(images), length // 2 // period * period
    for row in range(middle, middle + period):
        changed = images.clone()
        changed[:, :, row] += 10
        for one, other, stride in zip(whole, backbone(changed), backbone.strides, strict=True):
            rows = (one != other).any(3).any(1)[0].nonzero().flatten() * stride // period * period
            before, after = max(before, int(rows[-1]) - middle), max(after, middle - int(rows[0]))
    return before, after


@pytest.mark.parametrize("backbone", [toy(), registry.backbones.create("scattering")], ids=["toy", "scattering"])
def test_the_halo_is_that_of_changing_each_row(backbone: Backbone) -> None:
    field = receptive_field(backbone)
    assert field is not None
    assert (field.before[0], field.after[0]) == literal_field(backbone, 240, field.period)
    assert field.period == math.lcm(*backbone.strides)


@pytest.mark.parametrize("name", ["builtin", "scattering", "resnet18", "torchvision/squeezenet1_1"])
@pytest.mark.parametrize("size", [(331, 270), (256, 417)], ids=str)
@pytest.mark.parametrize("counts", [(1, 3), (4, 1), (2, 3)], ids=str)
def test_blocks_give_the_features_of_the_whole_image(name: str, size: tuple[int, int], counts: tuple[int, int]) -> None:
    weights = "default" if name in ("builtin", "scattering") else "none"
    backbone = registry.backbones.create(name, weights=weights)
    field = receptive_field(backbone)
    assert field is not None
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    rows, columns = (
        cut_axis(length, count, field.period, before, after)
        for length, count, before, after in zip(size, counts, field.before, field.after, strict=True)
    )
    whole = backbone(images)
    for one, other in zip(whole, block_maps(backbone, images, rows, columns, backbone.strides), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize("length", range(25, 44))
def test_every_size_and_padding(length: int) -> None:
    for padding in (0, 1, 2):
        backbone = toy(padding=padding)
        field = receptive_field(backbone)
        assert field is not None
        images = torch.rand(1, 3, length, 40, generator=torch.Generator().manual_seed(0))
        rows = cut_axis(length, 3, field.period, field.before[0], field.after[0])
        columns = cut_axis(40, 1, field.period, 0, 0)
        whole = backbone(images)
        for one, other in zip(whole, block_maps(backbone, images, rows, columns, backbone.strides), strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


def same_padding(maps: Tensor) -> Tensor:
    """A maximum over windows with as much padding as the size leaves, as TensorFlow pads."""
    pads = []
    for length in (maps.shape[3], maps.shape[2]):
        pad = max((math.ceil(length / 2) - 1) * 2 + 3 - length, 0)
        pads += [pad // 2, pad - pad // 2]
    return functional.max_pool2d(functional.pad(maps, pads), 3, stride=2)


def test_padding_by_the_size_of_the_image() -> None:
    network = Toy(same_padding)
    backbone = Backbone(
        network, name="toy", layers=("a", "b"), strides=(2, 12), state=network.state_dict(), weights_source="none"
    )
    field = receptive_field(backbone)
    assert field is not None
    for length in range(150, 162):
        images = torch.rand(1, 3, length, 61, generator=torch.Generator().manual_seed(0))
        rows = cut_axis(length, 3, field.period, field.before[0], field.after[0])
        columns = cut_axis(61, 1, field.period, 0, 0)
        for one, other in zip(
            backbone(images), block_maps(backbone, images, rows, columns, backbone.strides), strict=True
        ):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


GLOBAL = {
    "squeeze and excitation": lambda maps: maps * maps.mean((2, 3), keepdim=True).sigmoid(),
    "normalization by the image": lambda maps: functional.instance_norm(maps),
    "attention": lambda maps: ((maps.flatten(2).mT @ maps.flatten(2)).softmax(1) @ maps.flatten(2).mT).mT.reshape(
        maps.shape
    ),
}


@pytest.mark.parametrize("kind", GLOBAL)
def test_a_network_that_looks_at_all_of_an_image_is_refused(kind: str) -> None:
    backbone = toy(GLOBAL[kind])
    assert receptive_field(backbone) is None
    with pytest.raises(InputError, match=r"toy looks at all of an image at once: 900x900 .* into 3 bands: leave out"):
        plan_blocks(backbone, (900, 900), 3, 10**9)
    with pytest.raises(InputError, match=r"cannot be cut to fit 1 MB of memory: allow more memory \(--memory\)"):
        plan_blocks(backbone, (900, 900), "auto", 10**6, 10**6)
    assert plan_blocks(backbone, (900, 900), "auto", 10**6) is None  # no limit was asked for


@pytest.mark.parametrize("budget", [50_000_000, 100_000_000, 300_000_000, 2_000_000_000])
@pytest.mark.parametrize("size", [(2048, 2448), (2448, 2048), (1024, 4096)], ids=str)
def test_the_fewest_blocks_that_fit(budget: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("padim_zoo.features.streaming.rolling_bands", lambda *_: None)
    backbone = registry.backbones.create("builtin")
    limit = min(FAST_BYTES, budget // 2)
    blocks = plan_blocks(backbone, size, "auto", budget)
    each = bytes_per_pixel(backbone)
    if blocks is None:
        assert each * math.prod(size) <= limit
        return
    assert isinstance(blocks, Blocks)
    assert each * blocks.largest <= limit
    if len(blocks) > 2 and 1 in (len(blocks.rows), len(blocks.columns)):
        fewer = plan_blocks(backbone, size, len(blocks) - 1, budget)
        assert isinstance(fewer, Blocks)
        assert each * fewer.largest > limit


def test_bands_lie_across_the_longer_side_and_say_what_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("padim_zoo.features.streaming.rolling_bands", lambda *_: None)
    backbone = registry.backbones.create("builtin")
    overheads = []
    for count in (2, 3, 4):
        blocks = plan_blocks(backbone, (2048, 2448), count, 10**9)
        assert isinstance(blocks, Blocks)
        assert (len(blocks.rows), len(blocks.columns)) == (1, count)
        overheads.append(round(blocks.overhead, 2))
    assert overheads == [1.08, 1.17, 1.25]
    assert str(blocks) == "4 bands, with halos 1.25 times the pixels"


def test_few_large_images_are_in_work_at_once() -> None:
    backbone = registry.backbones.create("builtin")
    assert images_within(backbone, (256, 256), 32, 10**10) == 32
    assert images_within(backbone, (2048, 2448), 32, 10**10) == 1
    assert images_within(backbone, (256, 256), 32, 10**6) == 1
