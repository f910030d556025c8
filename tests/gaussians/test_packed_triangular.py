from __future__ import annotations

import numpy as np
import pytest
import torch

from padim_zoo.core.cholesky import whitening_factor
from padim_zoo.gaussians.gaussian import HALF_ERROR
from padim_zoo.gaussians.packed_triangular import PackedTriangles, Triangles, distance_error, packed_bytes


def factors(patches: int, n: int, condition: float, seed: int = 0) -> torch.Tensor:
    """Whitening factors (patches, n, n) of covariances of a given condition, float64."""
    rng = np.random.default_rng(seed)
    spectrum = np.geomspace(1, 1 / condition, n)
    turned = [np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(patches)]
    return whitening_factor(torch.from_numpy(np.stack([(q * spectrum) @ q.T for q in turned])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 7, 33, 51, 100])
def test_nothing_is_lost_but_the_zeros(n: int, dtype: torch.dtype) -> None:
    matrices = torch.randn(5, n, n, dtype=dtype).triu()
    packed = PackedTriangles.pack(Triangles.of(matrices), dtype)
    assert torch.equal(packed.unpack()[:], matrices)
    again = PackedTriangles.from_arrays("t", packed.arrays("t"))
    assert torch.equal(again.unpack()[:], matrices)
    assert packed_bytes(5, n, dtype) == packed.values.numel() * dtype.itemsize


@pytest.mark.parametrize("n", [5, 32, 41, 101])
@pytest.mark.parametrize("patches", [1, 6])
def test_products_are_those_of_whole_matrices(n: int, patches: int) -> None:
    matrices = torch.randn(patches, n, n, dtype=torch.float64).triu()
    rows = torch.randn(4, 3, n, dtype=torch.float64)
    expected = torch.stack([(rows[p] @ matrices[0 if patches == 1 else p + 1]).square().sum(1) for p in range(4)])
    assert torch.allclose(Triangles.of(matrices).squared_norms(rows, slice(1, 5)), expected, rtol=1e-12)


def test_sixteen_bits_whatever_the_range() -> None:
    matrices = torch.randn(3, 9, 9).triu() * torch.tensor([1e-20, 1.0, 1e20]).view(3, 1, 1)
    matrices[:, :, 4] = 0
    packed = PackedTriangles.pack(Triangles.of(matrices), torch.float16)
    largest = matrices.abs().amax(1, keepdim=True)
    assert ((packed.unpack()[:] - matrices).abs() <= 2**-11 * largest).all()
    assert packed.scale is not None
    found = packed.values.numel() * 2 + packed.scale.numel() * 4
    assert packed_bytes(3, 9, torch.float16) == found


def test_the_error_is_that_of_the_worst_distance() -> None:
    """Against the distances of many deviations drawn from each Gaussian, one by one."""
    exact = factors(4, 20, 1e2).float()
    rounded = PackedTriangles.pack(Triangles.of(exact), torch.float16).unpack()[:]
    error = distance_error(exact, rounded)
    worst = seen = 0.0
    rng = np.random.default_rng(1)
    for factor, other in zip(exact.double().numpy(), rounded.double().numpy(), strict=True):
        worst = max(worst, np.linalg.norm(np.linalg.solve(factor, other - factor), 2))
        for _ in range(200):
            deviation = np.linalg.solve(factor.T, rng.standard_normal(20))
            before, after = np.linalg.norm(factor.T @ deviation), np.linalg.norm(other.T @ deviation)
            seen = max(seen, abs(after / before - 1))
    assert seen < 0.9 * worst < error <= 1.001 * worst
    assert error <= HALF_ERROR


def test_the_error_grows_with_the_condition() -> None:
    errors = []
    for condition in (1e1, 1e4, 1e7):
        exact = factors(4, 20, condition).float()
        errors.append(distance_error(exact, PackedTriangles.pack(Triangles.of(exact), torch.float16).unpack()[:]))
    assert errors[0] < errors[1] < errors[2]
    assert errors[2] > HALF_ERROR
