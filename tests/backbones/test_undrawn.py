"""A network that is made without drawing weights is the one that is made with them."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from padim_zoo import registry
from padim_zoo.backbones.undrawn import Undrawn

DRAWS = {"resnet18": "torchvision", "builtin": "builtin", "timm/resnet10t": "timm", "timm/test_vit": "timm"}


@pytest.mark.parametrize("name", DRAWS)
def test_all_that_was_not_drawn_is_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        with torch.no_grad():
            return tensor.fill_(torch.nan)

    images = torch.rand(1, 3, 160, 160)
    with monkeypatch.context() as patch:  # what is not drawn could be anything
        patch.setattr(Undrawn, "untouched", staticmethod(spoilt))
        undrawn = registry.backbones.create(name, weights="none")
    monkeypatch.setattr(f"padim_zoo.backbones.{DRAWS[name]}.Undrawn", nullcontext)
    drawn = registry.backbones.create(name, weights="none")
    assert undrawn.weights_hash == drawn.weights_hash
    assert undrawn.response == drawn.response
    assert all(map(torch.equal, undrawn(images), drawn(images)))


def test_only_matrices_and_larger_stay_as_they_are() -> None:
    matrix, vector = torch.full((2, 3), 7.0), torch.full((3,), 7.0)
    with Undrawn():
        for draw in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_):
            assert torch.equal(draw(matrix), torch.full((2, 3), 7.0))
        assert torch.equal(nn.init.kaiming_normal_(tensor=matrix), torch.full((2, 3), 7.0))
        assert not torch.equal(nn.init.normal_(vector), torch.full((3,), 7.0))
    assert not torch.equal(nn.init.normal_(matrix), torch.full((2, 3), 7.0))


@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (0.5, 2.0), (3.0, 4.0)])
def test_draws_that_reject_values_end_and_keep_to_their_bounds(bounds: tuple[float, float]) -> None:
    with Undrawn():
        for shape in ((64, 64), (64,)):
            drawn = nn.init.trunc_normal_(torch.full(shape, 99.0), a=bounds[0], b=bounds[1])
            assert bounds[0] <= drawn.min() < drawn.max() <= bounds[1]
