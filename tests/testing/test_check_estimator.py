"""check_estimator passes the package's own estimators, and says in words what is wrong with broken ones."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from padim_zoo import InputError, registry
from padim_zoo.core.cholesky import whitening_factor
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.gaussians.gaussian import DiagonalGaussian, PrimalGaussian
from padim_zoo.gaussians.packed_triangular import Triangles
from padim_zoo.statistics.samples import Samples
from padim_zoo.testing import ContractError, check_estimator


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.estimators.names()
    monkeypatch.setattr(registry.estimators, "_entries", dict(registry.estimators._entries))


OWN = ["full", "shrinkage(0.2)", "ledoit-wolf", "oas", "diagonal", "spherical", "tied", "tied(cells=2)", "pooled"]


@pytest.mark.parametrize("spec", OWN)
def test_own_estimators_keep_the_contract(spec: str) -> None:
    check_estimator(spec)


class Sound(Estimator):
    """The variance of each channel and something more."""

    def fit(self, statistics):
        variance = statistics.squares(slice(None)) / max(statistics.n - 1, 1) + self.epsilon
        return DiagonalGaussian(statistics.mean, variance.clamp_min(1e-9).rsqrt().float())


class Forgetful(Sound):
    def __init__(self, scale=1.0):
        super().__init__()


class Ranked(Sound):
    def __init__(self, inner=None):
        super().__init__()
        self.inner = inner or np.ones(3)


class Rooted(DiagonalGaussian):
    def squared_distances(self, embeddings):
        return super().squared_distances(embeddings).sqrt()


class OwnForm(Sound):
    def fit(self, statistics):
        gaussian = super().fit(statistics)
        return Rooted(gaussian.mean, gaussian.weight)


class Doubled(Sound):
    def fit(self, statistics):
        gaussian = super().fit(statistics)
        gaussian.weight = gaussian.weight.double()
        return gaussian


class Singular(Estimator):
    def fit(self, statistics):
        covariance = statistics.scatter(slice(None)) / max(statistics.n - 1, 1)
        return PrimalGaussian(statistics.mean, Triangles.of(whitening_factor(covariance).float()))


class OfSamples(Sound):
    def fit(self, statistics):
        return super().fit(Samples(statistics.embeddings))


class Shrinking(Sound):
    def fit(self, statistics):
        statistics.embeddings.layers[0].mul_(0.5)
        return super().fit(Samples(statistics.embeddings))


class Drawing(Sound):
    def fit(self, statistics):
        gaussian = super().fit(statistics)
        gaussian.weight = gaussian.weight * (1 + torch.rand(()))
        return gaussian


class First(Sound):
    def fit(self, statistics):
        return super().fit(Samples(statistics.embeddings.images(np.arange(max(1, statistics.n // 2)))))


class OffCenter(Sound):
    def fit(self, statistics):
        gaussian = super().fit(statistics)
        gaussian.mean = gaussian.mean + gaussian.mean
        return gaussian


class Hasty(Sound):
    def __init__(self, epsilon=0.01):
        self.epsilon = epsilon


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (Forgetful, "parameters", "the argument 'scale' of the constructor is not an attribute"),
        (Ranked, "parameters", "the parameter 'inner' is a ndarray: expected a number or text"),
        (Hasty, "parameters", "epsilon=-1.0 is taken without complaint"),
        (OwnForm, "gaussian", "a Rooted, which model files do not know: expected one of primal, nested, samples, dual"),
        (OwnForm, "mahalanobis", "twice as far from the mean it is 2 times as large, .*: is the root taken already"),
        (Doubled, "squared distances", "are torch.float64: expected torch.float32"),
        (Singular, "squared distances", "a covariance is not positive definite|not all finite"),
        (OfSamples, "moments", "cannot be fitted to Moments .*: use n, P, D, mean"),
        (Shrinking, "determinism", "a fit changes the embeddings that it is given"),
        (Drawing, "determinism", "a second fit on the same images gives other distances: draw from a seed"),
        (First, "determinism", "the order of the normal images changes distances"),
        (OffCenter, "mahalanobis", "the mean of all patches is off by .* from that of the normal"),
    ],
)
def test_what_is_wrong_is_told(broken: Any, check: str, words: str) -> None:
    registry.estimators.register("sound")(Sound)
    check_estimator("sound")
    registry.estimators.register("broken")(broken)
    with pytest.raises(ContractError) as caught:
        check_estimator("broken")
    found = [each.message for each in caught.value.violations if each.check == check]
    assert re.search(words, "; ".join(found)), str(caught.value)
    assert all(message in str(caught.value) for message in found)


def test_what_is_no_estimator_is_told() -> None:
    registry.estimators.register("broken")(dict)
    with pytest.raises(
        ContractError, match=r"creation: is a dict: expected a padim_zoo.estimators.estimator.Estimator"
    ):
        check_estimator("broken")
    with pytest.raises(InputError, match="unknown estimator 'brokem'"):
        check_estimator("brokem(3)")
