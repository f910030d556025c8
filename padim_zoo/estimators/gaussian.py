"""Fitted Gaussians, one per patch, in the forms that scoring wants; all give exact squared Mahalanobis distances.

========  =========================================  ==========================================
form      what it stores                             squared distance of a deviation δ
========  =========================================  ==========================================
primal    F (D×D) with F Fᵀ = Σ⁻¹                    ‖Fᵀδ‖²
dual      W (D×n) with Σ⁻¹ = (I − W Wᵀ) / b          (‖δ‖² − ‖Wᵀδ‖²) / b
diagonal  w (D) with Σ⁻¹ = diag(w²)                  ‖w∘δ‖²
========  =========================================  ==========================================

The dual form is Woodbury's identity for Σ = a·S + b·I with S of rank below n: fewer numbers than the primal form when
there are fewer images than channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor


class Gaussian(ABC):
    """P Gaussians in D dimensions.

    Parameters
    ----------
    mean : Tensor (P, D), float32
    """

    form: ClassVar[str]

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    @property
    def P(self) -> int:
        """Number of patches."""
        return int(self.mean.shape[0])

    @abstractmethod
    def squared_distances(self, embeddings: Tensor, patches: slice) -> Tensor:
        """Squared Mahalanobis distances.

        Parameters
        ----------
        embeddings : Tensor (p, N, D)
            Embeddings of N images at the given patches.
        patches : slice
            Which p of the P patches.

        Returns
        -------
        Tensor (p, N), float32, not negative
        """

    @abstractmethod
    def factors(self) -> dict[str, Tensor]:
        """The arrays beside the mean, by the names of the constructor's arguments."""

    def state(self) -> dict[str, Tensor]:
        """All arrays: the constructor's arguments."""
        return {"mean": self.mean, **self.factors()}

    def size_in_bytes(self) -> int:
        """Size of all arrays."""
        return sum(array.numel() * array.element_size() for array in self.state().values())


class PrimalGaussian(Gaussian):
    """Σ⁻¹ = F Fᵀ. The factor is (P, D, D), or (1, D, D) when all patches share one covariance."""

    form = "primal"

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__(mean)
        self.factor = factor

    def squared_distances(self, embeddings: Tensor, patches: slice) -> Tensor:
        deviation = embeddings - self.mean[patches].unsqueeze(1)
        factor = self.factor if self.factor.shape[0] == 1 else self.factor[patches]
        return (deviation.to(factor.dtype) @ factor).square().sum(2).float()

    def factors(self) -> dict[str, Tensor]:
        return {"factor": self.factor}


class DualGaussian(Gaussian):
    """Σ⁻¹ = (I − W Wᵀ) / b. W is (P, D, n), b is (P,)."""

    form = "dual"

    def __init__(self, mean: Tensor, w: Tensor, b: Tensor) -> None:
        super().__init__(mean)
        self.w = w
        self.b = b

    def squared_distances(self, embeddings: Tensor, patches: slice) -> Tensor:
        deviation = embeddings - self.mean[patches].unsqueeze(1)
        inside = (deviation @ self.w[patches]).square().sum(2)
        outside = deviation.square().sum(2) - inside
        return outside.clamp_min(0) / self.b[patches].unsqueeze(1)

    def factors(self) -> dict[str, Tensor]:
        return {"w": self.w, "b": self.b}


class DiagonalGaussian(Gaussian):
    """Σ⁻¹ = diag(w²). The weights are (P, D), or (P, 1) when all channels of a patch share one variance."""

    form = "diagonal"

    def __init__(self, mean: Tensor, weight: Tensor) -> None:
        super().__init__(mean)
        self.weight = weight

    def squared_distances(self, embeddings: Tensor, patches: slice) -> Tensor:
        deviation = embeddings - self.mean[patches].unsqueeze(1)
        return (deviation * self.weight[patches].unsqueeze(1)).square().sum(2)

    def factors(self) -> dict[str, Tensor]:
        return {"weight": self.weight}


FORMS: Mapping[str, Callable[..., Gaussian]] = {
    form.form: form for form in (PrimalGaussian, DualGaussian, DiagonalGaussian)
}
"""The forms by name, to build a saved Gaussian again from its state."""


def whitening_factor(covariance: Tensor) -> Tensor:
    """F with F Fᵀ = Σ⁻¹ by Cholesky factorisation.

    Batched LU (``torch.linalg.inv``, ``solve``) is avoided throughout: with two or more threads it can hang on matrices
    larger than about 200×200 (pytorch issues 141358 and 142815).

    Parameters
    ----------
    covariance : Tensor (p, D, D), float64, positive definite

    Returns
    -------
    Tensor (p, D, D), float64, upper triangular
    """
    lower = torch.linalg.cholesky(covariance)
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    return torch.linalg.solve_triangular(lower, identity.expand_as(covariance), upper=False).mT
