"""A fitted PatchCore as one network of plain operations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from padim_zoo.core.nearest_neighbors import nearest_neighbors
from padim_zoo.detectors.local_patches import local_patches
from padim_zoo.detectors.memory_bank import Neighborhoods
from padim_zoo.detectors.scoring_network import AnomalyMaps

_FAR = 1e30
"""A squared distance beyond all others. Files of torch cannot hold an infinite number in a graph."""


class PatchCoreNetwork(nn.Module):
    """Distances to the nearest patches of a memory bank; the score is that of the worst patch, weighed."""

    memory_bank: Tensor
    shifted: Tensor
    center: Tensor
    norms: Tensor
    around: Tensor | None

    def __init__(
        self, memory_bank: Tensor, n_neighbors: int, levels: int, grid: tuple[int, int], to_maps: AnomalyMaps
    ) -> None:
        super().__init__()
        self.levels, self.grid, self.to_maps = levels, grid, to_maps
        # A common shift changes no distance, and products of small numbers lose fewer digits.
        center = memory_bank.mean(0)
        self.register_buffer("memory_bank", memory_bank)
        self.register_buffer("center", center)
        self.register_buffer("shifted", (memory_bank - center).T.contiguous())
        self.register_buffer("norms", (memory_bank - center).square().sum(1))
        around = nearest_neighbors(memory_bank, memory_bank, n_neighbors)[1] if n_neighbors > 1 else None
        self.register_buffer("around", around if around is not None and around.shape[1] > 1 else None)

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps."""
        patches = local_patches(maps[-self.levels :]).flatten(2).transpose(-1, -2)  # (N, P, D)
        nearest = (self.norms - 2 * ((patches - self.center) @ self.shifted)).argmin(2)
        # Distances by products lose digits where points are close: the one that counts is taken from the difference.
        positions, channels = self.grid[0] * self.grid[1], self.memory_bank.shape[1]
        neighbors = self.memory_bank.index_select(0, nearest.reshape(-1)).reshape(-1, positions, channels)
        distances = (patches - neighbors).square().sum(2).sqrt()
        scores, worst = distances.max(1)
        if self.around is not None:
            patch = patches.gather(1, worst.reshape(-1, 1, 1).expand(-1, 1, channels))
            index = nearest.gather(1, worst.reshape(-1, 1)).reshape(-1)
            around = self.around.index_select(0, index)
            others = self.memory_bank.index_select(0, around.reshape(-1)).reshape(-1, around.shape[1], channels)
            distant = (others - patch).square().sum(2).sqrt()
            largest = distant.amax(1, keepdim=True)
            shares = (distant - largest).exp().sum(1)
            scores = scores * (1 - (scores - largest[:, 0]).exp() / shares).clamp_min(0)
        return scores, self.to_maps(distances.reshape(-1, *self.grid))


class LocalPatchCoreNetwork(nn.Module):
    """Distances to the nearest patches of a memory bank within some positions; the score is as of the whole bank.

    Cells of positions are compared with the patches near them, as :class:`MemoryBank` does it.
    """

    memory_bank: Tensor
    center: Tensor
    cells: Tensor
    slots: Tensor
    near: Tensor
    starts: Tensor
    limits: Tensor

    def __init__(
        self, memory_bank: Tensor, places: Neighborhoods, n_neighbors: int, levels: int, to_maps: AnomalyMaps
    ) -> None:
        super().__init__()
        self.levels, self.grid, self.to_maps = levels, places.grid, to_maps
        count, R = places.near.shape
        self.shape, self.n_neighbors = (count, int(places.cells.shape[1]), R), min(n_neighbors, R)
        center, near = memory_bank.mean(0), places.near.clamp_min(0)
        norms = (memory_bank - center).square().sum(1)[near][:, None]
        beyond = places.beyond(slice(None), slice(None))
        slots = torch.zeros(places.grid[0] * places.grid[1], dtype=torch.int64)
        slots[places.cells.flatten()] = torch.arange(places.cells.numel())
        self.register_buffer("memory_bank", memory_bank)
        self.register_buffer("center", center)
        self.register_buffer("cells", places.cells.flatten())
        self.register_buffer("slots", slots)
        self.register_buffer("near", near.flatten())
        self.register_buffer("starts", (torch.arange(count) * R)[:, None])
        self.register_buffer("limits", norms.expand(-1, self.shape[1], -1).masked_fill(beyond, _FAR))

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps."""
        (cells, k, R), channels = self.shape, self.memory_bank.shape[1]
        positions = self.grid[0] * self.grid[1]
        patches = local_patches(maps[-self.levels :]).flatten(2).transpose(-1, -2)  # (N, P, D)
        asked = patches.index_select(1, self.cells).reshape(-1, cells, k, channels) - self.center
        references = (self.memory_bank - self.center).index_select(0, self.near).reshape(cells, R, channels)
        which = (self.limits - 2 * (asked @ references.transpose(1, 2))).argmin(3) + self.starts  # (N, cells, k)
        nearest = self.near.index_select(0, which.reshape(-1)).reshape(-1, cells * k).index_select(1, self.slots)
        neighbors = self.memory_bank.index_select(0, nearest.reshape(-1)).reshape(-1, positions, channels)
        distances = (patches - neighbors).square().sum(2).sqrt()
        scores, worst = distances.max(1)
        if self.n_neighbors > 1:
            rows = worst.reshape(-1, 1, 1).expand(-1, 1, channels)
            patch, neighbor = patches.gather(1, rows), neighbors.gather(1, rows)
            slot = self.slots.index_select(0, worst)
            near = self.near.reshape(cells, R).index_select(0, slot // k)  # (N, R)
            beyond = self.limits.reshape(cells * k, R).index_select(0, slot) >= _FAR
            others = self.memory_bank.index_select(0, near.reshape(-1)).reshape(-1, R, channels)
            from_neighbor = (others - neighbor).square().sum(2).masked_fill(beyond, _FAR)
            among, around = from_neighbor.topk(self.n_neighbors, 1, largest=False)
            distant = (others - patch).square().sum(2).sqrt().gather(1, around)
            distant = distant.masked_fill(among >= _FAR, -_FAR)
            largest = distant.amax(1, keepdim=True)
            shares = (distant - largest).exp().sum(1)
            weights = (1 - (scores - largest[:, 0]).exp() / shares).clamp_min(0)
            scores = scores * torch.where((among < _FAR).sum(1) > 1, weights, torch.ones_like(weights))
        return scores, self.to_maps(distances.reshape(-1, *self.grid))
