"""Every estimator against scikit-learn, patch by patch, and against a literal float64 oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian_oracle import embeddings_of, literal_distances, sample_covariances, samples_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf, ShrunkCovariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.mixture import GaussianMixture

from padim_zoo.core import parallel
from padim_zoo.core.errors import InputError
from padim_zoo.gaussians.dual import DualGaussian
from padim_zoo.gaussians.gaussian import Gaussian, PrimalGaussian
from padim_zoo.registry import estimators
from padim_zoo.statistics.moments import Moments

NAMES = ["full", "ledoit-wolf", "oas", "shrinkage(0.3)", "diagonal", "spherical", "tied"]


def distances(gaussian: Gaussian, test: np.ndarray) -> np.ndarray:
    """Squared distances (P, N) of test (N, P, D)."""
    return gaussian.squared_distances(embeddings_of(test)).numpy()


def sklearn_covariances(name: str, train: np.ndarray) -> np.ndarray:
    """What scikit-learn estimates at each patch, brought to the divisor that the estimator documents."""
    n, P, _ = train.shape
    unbiased = n / (n - 1)
    if name == "tied":
        patch = np.repeat(np.arange(P), n)
        pooled = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
        pooled.fit(train.transpose(1, 0, 2).reshape(P * n, -1).astype(np.float64), patch)
        return np.broadcast_to(pooled.covariance_ * unbiased, (P, *pooled.covariance_.shape))

    def one(samples: np.ndarray) -> np.ndarray:
        D = samples.shape[1]
        if name == "full":
            return EmpiricalCovariance().fit(samples).covariance_ * unbiased
        if name == "ledoit-wolf":
            return LedoitWolf().fit(samples).covariance_
        if name == "oas":
            return OAS().fit(samples).covariance_
        if name == "shrinkage(0.3)":
            return ShrunkCovariance(shrinkage=0.3).fit(samples).covariance_
        mixture = GaussianMixture(1, covariance_type={"diagonal": "diag", "spherical": "spherical"}[name], reg_covar=0)
        return np.eye(D) * mixture.fit(samples).covariances_[0] * unbiased

    return np.stack([one(train[:, patch].astype(np.float64)) for patch in range(P)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "D"), [(2, 5), (9, 30), (30, 30), (31, 30), (120, 12), (40, 1)])
@pytest.mark.parametrize("epsilon", [1e-4, 0.01])
def test_agrees_with_scikit_learn_patch_by_patch(draw, name, n, D, epsilon):
    train, test = draw(n, 4, D), draw(6, 4, D, seed=1)
    covariances = sklearn_covariances(name, train)
    estimator = estimators.create(name, epsilon=epsilon)
    expected = literal_distances(covariances + epsilon * np.eye(D), train, test)
    np.testing.assert_allclose(distances(estimator.fit(samples_of(train)), test), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["ledoit-wolf", "oas", "shrinkage(0.3)", "spherical"])
def test_without_epsilon_they_are_the_textbook_estimators(draw, name):
    train, test = draw(20, 4, 12), draw(6, 4, 12, seed=1)
    expected = literal_distances(sklearn_covariances(name, train), train, test)
    gaussian = estimators.create(name, epsilon=0).fit(samples_of(train))
    np.testing.assert_allclose(distances(gaussian, test), expected, rtol=1e-5)


@pytest.mark.parametrize(("n", "D"), [(1, 3), (2, 5), (9, 30), (120, 12)])
def test_pooled_has_one_mean_and_one_covariance(draw, n, D):
    train, test = draw(n, 4, D), draw(6, 4, D, seed=1)
    samples = train.reshape(n * 4, D).astype(np.float64)
    covariance = np.cov(samples.T) + 0.01 * np.eye(D)
    delta = (test - samples.mean(0)).transpose(1, 0, 2)
    expected = np.einsum("pnd,de,pne->pn", delta, np.linalg.inv(covariance), delta)
    np.testing.assert_allclose(distances(estimators.create("pooled").fit(samples_of(train)), test), expected, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_leaves_epsilon_alone(draw, name):
    train, test = draw(1, 3, 8), draw(4, 3, 8, seed=1)
    expected = ((test - train) ** 2).sum(2).T / 0.01
    np.testing.assert_allclose(distances(estimators.create(name).fit(samples_of(train)), test), expected, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_constant_channels_are_finite_and_zero_on_the_normal_images(name, n):
    constant = np.full((n, 3, 10), 0.7, dtype=np.float32)
    gaussian = estimators.create(name).fit(samples_of(constant))
    np.testing.assert_allclose(distances(gaussian, constant), 0, atol=1e-6)
    np.testing.assert_allclose(distances(gaussian, constant[:1] + 1), 10 / 0.01, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    D=st.integers(1, 40),
    scale=st.sampled_from([1e-2, 1.0, 30.0, 1e3]),
    quiet=st.floats(0, 1),
    name=st.sampled_from(["full", "ledoit-wolf", "oas", "shrinkage(0.3)"]),
    seed=st.integers(0, 99),
)
def test_exact_for_any_shape_scale_and_nearly_constant_channels(n, D, scale, quiet, name, seed):
    rng = np.random.default_rng(seed)
    spread = np.where(rng.random(D) < quiet, 1e-4, 1.0) * scale
    train = (rng.normal(size=(n, 3, D)) * spread + rng.normal(size=(3, D)) * scale).astype(np.float32)
    test = (rng.normal(size=(5, 3, D)) * spread * 2 + rng.normal(size=(3, D)) * scale).astype(np.float32)
    if name == "full":
        covariances = sample_covariances(train)
    elif n == 1:
        covariances = np.zeros((3, D, D))
    else:
        covariances = sklearn_covariances(name, train)
    expected = literal_distances(covariances + 0.01 * np.eye(D), train, test)
    np.testing.assert_allclose(distances(estimators.create(name).fit(samples_of(train)), test), expected, 1e-4, 1e-9)


@pytest.mark.parametrize(("n", "D", "seed"), [(5, 2, 1), (3, 3, 4)])
def test_a_mean_far_off_moves_no_shrinkage(n, D, seed):
    """Means of 10⁴ deviations, whose rounding to float32 fourth powers feel to first order."""
    rng = np.random.default_rng(seed)
    train = (rng.normal(size=(n, 3, D)) * 0.1 + rng.normal(size=(3, D)) * 1e3).astype(np.float32)
    rng.normal(size=(5, 3, D))
    test = (rng.normal(size=(5, 3, D)) * 0.2 + rng.normal(size=(3, D)) * 1e3).astype(np.float32)
    covariances = sklearn_covariances("ledoit-wolf", train) + 0.01 * np.eye(D)
    expected = literal_distances(covariances, train, test)
    found = distances(estimators.create("ledoit-wolf").fit(samples_of(train)), test)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_the_cheaper_form_is_chosen_and_both_agree(draw):
    train, test = draw(20, 5, 24), draw(7, 5, 24, seed=1)
    dual = estimators.create("full").fit(samples_of(train))
    assert isinstance(dual, DualGaussian)
    primal = estimators.create("full").fit(Moments.of(embeddings_of(train), embeddings_of(train).mean()))
    assert isinstance(primal, PrimalGaussian)
    np.testing.assert_allclose(distances(dual, test), distances(primal, test), rtol=1e-5)


@pytest.mark.parametrize("n", [12, 60])
def test_float64_where_float32_would_not_do(draw, n):
    train = draw(n, 3, 24)
    train[:, :, :6] *= 3000
    gaussian = estimators.create("full").fit(samples_of(train))
    factor = gaussian.whitener if isinstance(gaussian, DualGaussian) else gaussian.factor
    assert factor.dtype == torch.float64
    assert isinstance(gaussian, DualGaussian) == (n <= 24)
    test = np.concatenate([train[:4], draw(4, 3, 24, seed=1)])
    expected = literal_distances(sample_covariances(train) + 0.01 * np.eye(24), train, test)
    np.testing.assert_allclose(distances(gaussian, test), expected, rtol=1e-4)


@pytest.mark.parametrize("n", [6, 40])
def test_features_without_bounds_are_refused_in_one_line(draw, n):
    train = draw(n, 3, 12)
    train[0, 1, 2] = np.inf
    with pytest.raises(InputError, match="not positive definite in float64: the features are not finite"):
        estimators.create("full").fit(samples_of(train))


@pytest.mark.parametrize("scale", [1.0, 10.0, 300.0])
@pytest.mark.parametrize("name", ["full", "ledoit-wolf"])
def test_an_image_scores_alone_as_it_does_among_others(draw, name, scale):
    train, test = draw(20, 6, 30, scale=scale), draw(9, 6, 30, seed=1, scale=scale)
    everything = np.concatenate([train, test])
    gaussian = estimators.create(name).fit(samples_of(train))
    together = distances(gaussian, everything)
    alone = np.concatenate([distances(gaussian, image[None]) for image in everything], axis=1)
    np.testing.assert_allclose(alone, together, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_exact_on_the_normal_images_themselves_where_the_dual_form_cancels(draw, scale):
    train = draw(15, 4, 60, scale=scale)
    gaussian = estimators.create("full").fit(samples_of(train))
    assert isinstance(gaussian, DualGaussian)
    expected = literal_distances(sample_covariances(train) + 0.01 * np.eye(60), train, train)
    np.testing.assert_allclose(distances(gaussian, train), expected, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_neither_blocks_nor_threads_change_a_distance(draw, name, monkeypatch):
    train, test = draw(12, 37, 16), draw(9, 37, 16, seed=1)
    found = []
    for block_bytes, threads in ((2**24, 1), (1, 2), (20_000, 2)):
        monkeypatch.setattr(parallel, "BLOCK_BYTES", block_bytes)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found.append(distances(estimators.create(name).fit(samples_of(train)), test))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("shrinkage(1.5)", "from 0 to 1"),
        ("shrinkage('a')", "from 0 to 1"),
        ("full(-1)", "not negative"),
        ("full(epsilon=float)", "cannot read the arguments"),
        ("full(delta=1)", "delta"),
        ("ful", "did you mean full"),
    ],
)
def test_bad_arguments_are_one_clear_line(spec, words):
    with pytest.raises(InputError, match=words) as caught:
        estimators.create(spec)
    assert "\n" not in str(caught.value)
