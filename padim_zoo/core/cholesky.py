"""Triangular factors of inverse covariances, by Cholesky factorization in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from padim_zoo.core.errors import InputError


class IllConditionedError(ArithmeticError):
    """Float32 would not keep the distances at some patch."""


def whitening_factor(covariance: Tensor) -> Tensor:
    """F with F Fᵀ = Σ⁻¹ by Cholesky factorization.

    Batched LU (``torch.linalg.inv``, ``solve``) is avoided throughout: with two or more threads it can hang on matrices
    larger than about 200×200 (pytorch issues 141358 and 142815).

    Parameters
    ----------
    covariance : Tensor
        (p, D, D), float64, positive definite.

    Returns
    -------
    Tensor (p, D, D), float64, upper triangular

    Raises
    ------
    InputError
        If a matrix is not positive definite, even in float64.
    """
    try:
        lower = torch.linalg.cholesky(covariance)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        raise InputError(
            "a covariance is not positive definite in float64: the features are not finite, or so large that epsilon "
            "is lost beside them; use trained weights, another backbone or precision, or a shrinkage estimator"
        ) from None
    return _inverse_of_lower(lower).mT


def _inverse_of_lower(lower: Tensor) -> Tensor:
    identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    inverse: Tensor = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)
    return inverse


def upper_factor(matrix: Tensor, is_inverse: bool) -> tuple[Tensor, Tensor]:
    """F with F Fᵀ = Σ⁻¹ of a covariance, or of its inverse.

    Parameters
    ----------
    matrix : Tensor
        (p, D, D), float64, symmetric: Σ⁻¹ if ``is_inverse``, else Σ.

    Returns
    -------
    factor : Tensor (p, D, D), float64, upper triangular
    failed : Tensor (p,), bool
        Matrices that are not positive definite, whose factors mean nothing.
    """
    # Cholesky gives lower triangles; with rows and columns in reverse an upper one comes out.
    lower, info = torch.linalg.cholesky_ex(matrix.flip((1, 2)) if is_inverse else matrix)
    failed = info != 0
    if is_inverse:
        return lower.flip((1, 2)), failed
    lower[failed] = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    return _inverse_of_lower(lower).mT, failed
