"""A network's error is blamed on the size of the images, unless memory was refused or the network never works."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.core.errors import InputError


class _Picky(nn.Module):
    """A network that fails on all images but those of 64 pixels."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def forward(self, images: Tensor) -> list[Tensor]:
        if images.shape[-1] != 64:
            raise RuntimeError(self.message)
        return [images]


def picky_backbone(message: str) -> Backbone:
    return Backbone(_Picky(message), name="picky", layers=["a"], strides=[1], state={}, weights_source="none")


def test_an_error_that_only_names_memory_is_blamed_on_the_size() -> None:
    backbone = picky_backbone("unsupported memory format")
    with pytest.raises(InputError, match=r"picky cannot take images of 50×50 pixels .unsupported memory format"):
        backbone(torch.rand(1, 3, 50, 50))


def test_memory_that_was_refused_is_not() -> None:
    backbone = picky_backbone("DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        backbone(torch.rand(1, 3, 50, 50))
