from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from padim_zoo.backbones.cpu.batch_norm_folding import fold_batch_norm


def trained_norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm that is far from the identity."""
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.normal_(norm.bias)
    norm.running_mean = torch.randn(channels)
    norm.running_var = torch.rand(channels) + 0.1
    return norm


class Residual(nn.Module):
    """Convolution, norm and a shortcut that reads the convolution's output too, or its input."""

    def __init__(self, *, reads_twice: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = trained_norm(3)
        self.reads_twice = reads_twice

    def forward(self, images: Tensor) -> list[Tensor]:
        convolved = self.convolution(images)
        return [self.norm(convolved) + (convolved if self.reads_twice else images)]


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(("reads_twice", "left"), [(False, 0), (True, 1)])
def test_folded_only_where_nothing_else_reads_the_convolution(reads_twice: bool, left: int) -> None:
    network = Residual(reads_twice=reads_twice).eval()
    images = torch.randn(2, 3, 9, 8)
    with torch.no_grad():
        [expected] = network(images)
        fold_batch_norm(network, torch.randn(1, 3, 8, 8))
        [found] = network(images)
    assert norms(network) == left
    torch.testing.assert_close(found, expected)


def test_a_module_that_is_used_twice_is_left_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 3, 1), trained_norm(3)

        def forward(self, images: Tensor) -> list[Tensor]:
            return [self.convolution(self.norm(self.convolution(images)))]

    network = Twice().eval()
    fold_batch_norm(network, torch.randn(1, 3, 4, 4))
    assert norms(network) == 1


def test_activation_within_a_norm_is_kept() -> None:
    from timm.layers import BatchNormAct2d

    class Stem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 4, 3, stride=2), BatchNormAct2d(4)

        def forward(self, images: Tensor) -> list[Tensor]:
            return [self.norm(self.convolution(images))]

    network, images = Stem().eval(), torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        [expected] = network(images)
        fold_batch_norm(network, images)
        [found] = network(images)
    assert norms(network) == 0
    torch.testing.assert_close(found, expected)
