"""A residual network in the shape of resnet18's first three stages, with a quarter of the parameters.

Its residual streams have resnet18's own 64, 128 and 256 channels, so that it can be started from those weights; what
is small is the inside of each block: a 3×3 convolution between few channels, with a 1×1 convolution before and after
(Tucker-2 decomposition, Kim et al. 2016, arXiv 1511.06530).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

STEM_CHANNELS = 32
WIDTHS = (64, 128, 256)
RANKS = (16, 32, 96)
BLOCKS = 2


class LowRankConv(nn.Sequential):
    """A 3×3 convolution through ``rank`` channels: reduce, core, expand.

    Parameters
    ----------
    channels, outputs : int
        Channels of input and output.
    rank : int
        Channels of the 3×3 convolution between.
    stride : int
    """

    def __init__(self, channels: int, outputs: int, rank: int, stride: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, rank, 1, bias=False)
        self.core = nn.Conv2d(rank, rank, 3, stride, 1, bias=False)
        self.expand = nn.Conv2d(rank, outputs, 1)


class CompactBlock(nn.Module):
    """A basic residual block (He et al. 2016, arXiv 1512.03385) of low-rank convolutions."""

    def __init__(self, channels: int, outputs: int, rank: int, stride: int) -> None:
        super().__init__()
        self.conv1 = LowRankConv(channels, outputs, rank, stride)
        self.conv2 = LowRankConv(outputs, outputs, rank, 1)
        self.skip = nn.Identity() if channels == outputs and stride == 1 else nn.Conv2d(channels, outputs, 1, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, outputs, H / stride, W / stride)."""
        residual = self.conv2(torch.relu_(self.conv1(maps)))
        residual += self.skip(maps)  # in place, as the activations: a tenth of the time on a CPU
        return torch.relu_(residual)


class CompactResNet(nn.Module):
    """The residual streams after each stage, at strides 4, 8 and 16.

    Parameters
    ----------
    stages : int
        How many of the three stages there are.
    """

    def __init__(self, stages: int = len(WIDTHS)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 7, 2, 3)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.widen = nn.Conv2d(STEM_CHANNELS, WIDTHS[0], 1)
        self.stages = nn.ModuleList()
        channels = WIDTHS[0]
        for stage, (width, rank) in enumerate(zip(WIDTHS[:stages], RANKS, strict=False)):
            first = CompactBlock(channels, width, rank, stride=2 if stage else 1)
            others = [CompactBlock(width, width, rank, stride=1) for _ in range(BLOCKS - 1)]
            self.stages.append(nn.Sequential(first, *others))
            channels = width

    def streams(self, images: Tensor) -> list[Tensor]:
        """Maps (N, 64 · 2^l, H_l, W_l) of normalized images (N, 3, H, W)."""
        maps = self.widen(self.pool(torch.relu_(self.stem(images))))
        streams = []
        for stage in self.stages:
            maps = stage(maps)
            streams.append(maps)
        return streams

    def forward(self, images: Tensor) -> list[Tensor]:
        """The same as :meth:`streams`."""
        return self.streams(images)


class ProjectedResNet(CompactResNet):
    """The streams of some stages, each projected linearly.

    Parameters
    ----------
    wanted : sequence of int
        Stages to return, 0 to 2.
    components : sequence of int
        How many dimensions the projection of each of the three stages has.
    """

    def __init__(self, wanted: Sequence[int], components: Sequence[int]) -> None:
        super().__init__(max(wanted) + 1)
        self.wanted = tuple(wanted)
        self.projections = nn.ModuleDict(
            {str(stage): nn.Conv2d(WIDTHS[stage], components[stage], 1) for stage in sorted(set(wanted))}
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (N, components[l], H_l, W_l), in the order of the stages asked for."""
        streams = self.streams(images)
        return [self.projections[str(stage)](streams[stage]) for stage in self.wanted]
