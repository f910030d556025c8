"""Estimators: the embeddings of normal images at each patch to a Gaussian."""

from __future__ import annotations

from padim_zoo.estimators.linear_shrinkage import OAS, Full, LedoitWolf, Shrinkage
from padim_zoo.estimators.structured import Diagonal, Pooled, Spherical, Tied
from padim_zoo.registry import estimators

_SOURCE = "padim_zoo"

estimators.register("full", source=_SOURCE, covariance="S + εI", default="epsilon=0.01")(Full)
estimators.register("ledoit-wolf", source=_SOURCE, covariance="(1−ρ)S + ρ·tr(S)/D·I + εI", default="epsilon=0.01")(
    LedoitWolf
)
estimators.register("oas", source=_SOURCE, covariance="(1−ρ)S + ρ·tr(S)/D·I + εI", default="epsilon=0.01")(OAS)
estimators.register(
    "shrinkage", source=_SOURCE, covariance="(1−ρ)S + ρ·tr(S)/D·I + εI", default="shrinkage_intensity=0.1, epsilon=0.01"
)(Shrinkage)
estimators.register("diagonal", source=_SOURCE, covariance="diag(S) + εI", default="epsilon=0.01")(Diagonal)
estimators.register("spherical", source=_SOURCE, covariance="(tr(S)/D + ε)·I", default="epsilon=0.01")(Spherical)
estimators.register(
    "tied", source=_SOURCE, covariance="mean of S over patches + εI", default="epsilon=0.01, cells=None"
)(Tied)
estimators.register("pooled", source=_SOURCE, covariance="S of all patches + εI", default="epsilon=0.01")(Pooled)
