"""Upper triangular factors as files keep them: only the triangle, in 16 or 32 bit, and as a map until it is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from padim_zoo.parallel import map_blocks


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
    def pack(cls, matrices: Tensor, dtype: torch.dtype) -> PackedTriangles:
        """The upper triangles of matrices (P, n, n), in ``dtype``; in their own where that is not float16."""
        n = matrices.shape[1]
        rows, columns = torch.triu_indices(n, n)
        if dtype != torch.float16:
            bytes_per_patch = 2 * n * n * matrices.element_size()
            return cls(*map_blocks(lambda part: (matrices[part][:, rows, columns],), len(matrices), bytes_per_patch))

        def scaled(part: slice) -> tuple[Tensor, Tensor]:
            block = matrices[part]
            scale = block.abs().amax(1).float().clamp_min(torch.finfo(torch.float32).tiny)
            return (block / scale.unsqueeze(1))[:, rows, columns].half(), scale

        return cls(*map_blocks(scaled, len(matrices), 8 * n * n))

    def arrays(self, name: str) -> dict[str, Tensor]:
        """Both arrays by names that start with ``name``."""
        values = {f"{name}.values": self.values}
        return values if self.scale is None else {**values, f"{name}.scale": self.scale}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, Tensor]) -> PackedTriangles:
        """What :meth:`arrays` gave."""
        return cls(arrays[f"{name}.values"], arrays.get(f"{name}.scale"))

    def unpack(self) -> Tensor:
        """The matrices (P, n, n), float32 where they are kept in 16 bit."""
        n = int(((8 * self.values.shape[1] + 1) ** 0.5 - 1) / 2)
        rows, columns = torch.triu_indices(n, n)
        dtype = torch.float32 if self.scale is not None else self.values.dtype

        def filled(part: slice) -> tuple[Tensor]:
            values = self.values[part].to(dtype)
            block = torch.zeros(len(values), n, n, dtype=dtype)
            block[:, rows, columns] = values if self.scale is None else values * self.scale[part][:, columns]
            return (block,)

        (matrices,) = map_blocks(filled, len(self.values), 12 * n * n)
        return matrices


def packed_bytes(patches: int, n: int, dtype: torch.dtype) -> int:
    """Size of the packed triangles of matrices (patches, n, n)."""
    scales = 4 * n if dtype == torch.float16 else 0
    return patches * (n * (n + 1) // 2 * dtype.itemsize + scales)


def distance_error(exact: Tensor, rounded: Tensor, draws: int = 8) -> float:
    """Largest relative change of a Mahalanobis distance when F is replaced by a rounded F.

    Measured on deviations that the Gaussians themselves would give, δ = F⁻ᵀz with z standard normal (their distances
    suffer most, because the terms of Fᵀδ cancel there), and on deviations in arbitrary directions.

    Parameters
    ----------
    exact, rounded : Tensor (P, D, D)
        F with F Fᵀ = Σ⁻¹, upper triangular.
    draws : int
        Deviations of each kind, the same for all patches.
    """
    z = torch.randn(2, exact.shape[1], draws, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def change(part: slice) -> tuple[Tensor]:
        factor, other = exact[part].double(), rounded[part].double()
        own = torch.linalg.solve_triangular(factor.mT, z[0].expand(len(factor), -1, -1), upper=False)
        deviations = torch.cat([own, z[1].expand(len(factor), -1, -1)], 2)
        before, after = (((matrix.mT @ deviations).square().sum(1)).sqrt() for matrix in (factor, other))
        return ((after / before - 1).abs().amax(1),)

    (changes,) = map_blocks(change, len(exact), 32 * exact.shape[1] ** 2)
    return float(changes.max())
