"""Upper triangular factors: in blocks of columns to compute with, and packed, in 16 or 32 bit, as files keep them.

Scoring single images is bound by reading the factors from memory, and zeros are read as slowly as other numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from padim_zoo.core.parallel import map_blocks

_BLOCKS = ((80, 4), (40, 2), (1, 1))
"""From how many columns on a matrix is in how many blocks.

Of c blocks (c + 1)/(2c) of a matrix are read. More blocks leave less to read, but more products to start. Of 4096
matrices, for one image on one core, 1, 2 and 4 blocks took 1.6, 2.4 and 3.9 ms at 32 columns, 3.7, 3.3 and 4.8 at 50,
6.6, 4.9 and 5.6 at 64, and 15.2, 10.5 and 8.3 at 100. The order is the same for 8 images."""


def column_blocks(matrices: Tensor) -> tuple[Tensor, ...]:
    """Blocks (p, stop, width) of the columns of upper triangular matrices (p, n, n), down to the diagonal."""
    n = matrices.shape[-1]
    count = next(count for least, count in _BLOCKS if n >= least)
    stops = [n * number // count for number in range(count + 1)]
    return tuple(matrices[:, :stop, start:stop].contiguous() for start, stop in pairwise(stops))


@dataclass(frozen=True)
class Triangles:
    """P upper triangular matrices (n, n), or one for all patches, as :func:`column_blocks`.

    Attributes
    ----------
    blocks : tuple of Tensor (P, stop, width)
    """

    blocks: tuple[Tensor, ...]

    @classmethod
    def of(cls, matrices: Tensor) -> Triangles:
        """The same matrices, all in memory at once."""
        return cls(column_blocks(matrices))

    def __len__(self) -> int:
        return len(self.blocks[0])

    @property
    def n(self) -> int:
        """Rows and columns."""
        return int(self.blocks[-1].shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """Type of all blocks."""
        return self.blocks[0].dtype

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.blocks[0].device

    def __getitem__(self, patches: slice | Tensor) -> Tensor:
        """Some of the matrices, whole, (p, n, n)."""
        blocks = [block[patches] for block in self.blocks]
        whole = torch.zeros(len(blocks[0]), self.n, self.n, dtype=self.dtype, device=self.device)
        for block in blocks:
            stop, width = block.shape[1:]
            whole[:, :stop, stop - width : stop] = block
        return whole

    def squared_norms(self, rows: Tensor, patches: slice) -> Tensor:
        """‖rᵀF‖² for each of N rows r at some patches.

        Parameters
        ----------
        rows : Tensor (p, N, n)
        patches : slice
            The p patches they belong to.

        Returns
        -------
        Tensor (p, N)
        """
        total = torch.zeros(rows.shape[:2], dtype=self.dtype, device=self.device)
        for block in self.blocks:
            columns = block if len(block) == 1 else block[patches]
            total += (rows[..., : block.shape[1]] @ columns).square_().sum(2)
        return total


@dataclass(frozen=True)
class PackedTriangles:
    """P upper triangular matrices (n, n) without the zeros below.

    Attributes
    ----------
    values : Tensor (P, n·(n + 1)/2)
        Row after row; in 16 bit divided by the scale of its column.
    scale : Tensor (P, n) or None
        The largest magnitude of each column, float32, of values in 16 bit: so the range of the type never matters.
    """

    values: Tensor
    scale: Tensor | None = None

    @classmethod
    def pack(cls, matrices: Triangles, dtype: torch.dtype) -> PackedTriangles:
        """The upper triangles of P matrices, in ``dtype``; in their own where that is not float16."""
        n = matrices.n
        rows, columns = torch.triu_indices(n, n)
        if dtype != torch.float16:
            bytes_per_patch = 2 * n * n * matrices.dtype.itemsize
            return cls(*map_blocks(lambda part: (matrices[part][:, rows, columns],), len(matrices), bytes_per_patch))

        def scaled(part: slice) -> tuple[Tensor, Tensor]:
            block = matrices[part]
            scale = block.abs().amax(1).float().clamp_min(torch.finfo(torch.float32).tiny)
            return (block / scale.unsqueeze(1))[:, rows, columns].half(), scale

        return cls(*map_blocks(scaled, len(matrices), 8 * n * n))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the values."""
        return self.values.dtype

    def arrays(self, name: str) -> dict[str, Tensor]:
        """Both arrays by names that start with ``name``."""
        values = {f"{name}.values": self.values}
        return values if self.scale is None else {**values, f"{name}.scale": self.scale}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, Tensor]) -> PackedTriangles:
        """What :meth:`arrays` gave."""
        return cls(arrays[f"{name}.values"], arrays.get(f"{name}.scale"))

    def unpack(self) -> Triangles:
        """The matrices, float32 where they are kept in 16 bit."""
        n, device = int(((8 * self.values.shape[1] + 1) ** 0.5 - 1) / 2), self.values.device
        rows, columns = torch.triu_indices(n, n, device=device)
        dtype = torch.float32 if self.scale is not None else self.values.dtype

        def unpack(part: slice) -> tuple[Tensor, ...]:
            values = self.values[part].to(dtype)
            block = torch.zeros(len(values), n, n, dtype=dtype, device=device)
            block[:, rows, columns] = values if self.scale is None else values * self.scale[part][:, columns]
            return column_blocks(block)

        return Triangles(map_blocks(unpack, len(self.values), 12 * n * n, device))


def unpacked(triangles: Triangles | PackedTriangles) -> Triangles:
    """The matrices to compute with, unpacked if need be."""
    return triangles.unpack() if isinstance(triangles, PackedTriangles) else triangles


def packed_bytes(patches: int, n: int, dtype: torch.dtype) -> int:
    """Size of the packed triangles of matrices (patches, n, n)."""
    scales = 4 * n if dtype == torch.float16 else 0
    return patches * (n * (n + 1) // 2 * dtype.itemsize + scales)


def distance_error(exact: Tensor, rounded: Tensor) -> float:
    """Largest relative change of a Mahalanobis distance when F is replaced by a rounded F, whatever the deviation.

    A deviation whose whitened form is z = Fᵀδ becomes (I + M)ᵀz, with M = F⁻¹(F̂ − F), so that no distance changes by
    more than the largest singular value of M. That is found by powers of M Mᵀ, to a few percent, from below.

    Parameters
    ----------
    exact, rounded : Tensor (P, D, D)
        F with F Fᵀ = Σ⁻¹, upper triangular, and F̂.
    """
    draws, steps = 4, 6  # vectors to start from, the same for all patches, and products with M Mᵀ
    start = torch.randn(exact.shape[1], draws, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def change(part: slice) -> tuple[Tensor]:
        factor = exact[part].double()
        difference = rounded[part].double() - factor
        vectors, growth = start.expand(len(factor), -1, -1), torch.zeros(len(factor), 1, draws, dtype=torch.float64)
        for _ in range(steps):
            vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
            vectors = difference.mT @ torch.linalg.solve_triangular(factor.mT, vectors, upper=False)
            growth = vectors.norm(dim=1, keepdim=True)
            vectors = torch.linalg.solve_triangular(factor, difference @ vectors, upper=True)
        return (growth.amax((1, 2)),)

    (changes,) = map_blocks(change, len(exact), 32 * exact.shape[1] ** 2)
    return float(changes.max())
