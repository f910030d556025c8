"""The contract of estimators, as checks."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.estimators.estimator import Estimator
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.forms import FORMS
from padim_zoo.gaussians.gaussian import HALF_ERROR, Gaussian
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples
from padim_zoo.testing.contract import Registered, checks_of, create, in_one_line, refusal, run_checks
from padim_zoo.testing.images import normal_images
from padim_zoo.testing.model_file import same_after_loading

TOLERANCE = 1e-3
"""Largest relative difference of two squared distances that should be equal up to rounding."""

MANY, FEW = 40, 6
"""Normal images: more than the dimensions of the embeddings that are tried, and fewer."""


@dataclass(frozen=True)
class Subject(Registered[Estimator]):
    """An estimator under test."""

    def fit(self, embeddings: PatchEmbeddings) -> Any:
        """A Gaussian of samples, by a fresh estimator."""
        return self.make().fit(Samples(embeddings))


def check_estimator(spec: str, **options: Any) -> None:
    """Check that a registered estimator keeps the contract.

    Parameters
    ----------
    spec : str
        A registered name, with arguments if wanted: ``"shrinkage(0.2)"``.
    **options
        Further arguments.

    Raises
    ------
    ContractError
        Naming everything that is wrong.
    InputError
        If the name is not registered.
    """
    estimator = create(registry.estimators, spec, Estimator, **options)
    run_checks(f"the estimator {spec!r}", Subject(registry.estimators, spec, estimator, options), checks_of(__name__))


def _embeddings(count: int, seed: int = 0, scale: float = 1.0) -> PatchEmbeddings:
    """Embeddings of two layers, of 4 + 3 correlated channels on grids of 4 × 6 and 2 × 3."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(100).normal(size=(2, 4, 4))
    maps = []
    for layer, (channels, height, width) in enumerate(((4, 4, 6), (3, 2, 3))):
        values = random.normal(size=(count, height, width, channels)) @ mixing[layer, :channels, :channels]
        values += np.random.default_rng(layer).normal(0, 3, (height, width, channels))
        maps.append(torch.from_numpy(scale * values).float().permute(0, 3, 1, 2))
    return PatchEmbeddings.of(Features(tuple(maps), (16, 24)))


# -- the checks: what each yields is one line for each thing that is wrong -------------------------------------------


def parameters(subject: Subject) -> Iterator[str]:
    """Arguments are kept under their names, so that a model file and a grid search can name them."""
    estimator = subject.made
    arguments = tuple(inspect.signature(type(estimator)).parameters)
    for argument in arguments:
        if not hasattr(estimator, argument):
            yield f"the argument {argument!r} of the constructor is not an attribute: expected self.{argument} = …"
            return
    values = estimator.get_params()
    if set(values) != set(arguments):
        yield f"get_params gives {', '.join(values) or 'nothing'}: expected {', '.join(arguments)}"
    for argument, value in values.items():
        if not isinstance(value, (bool, int, float, str, type(None), tuple, list)):
            yield f"the parameter {argument!r} is a {type(value).__name__}: expected a number or text"
    try:
        spec = registry.estimators.spec_of(estimator)
        again = registry.estimators.create(spec)
    except InputError as error:
        yield f"a model file cannot name it: {error}"
        return
    if again.get_params() != values:
        yield f"made again as a model file names it, {spec}, its parameters are {again.get_params()}: expected {values}"
    yield from refusal(partial(registry.estimators.create, subject.name, no_such_argument=1), "an unknown argument")
    if "epsilon" in arguments:
        for value in (-1.0, "small"):
            yield from refusal(partial(registry.estimators.create, subject.name, epsilon=value), f"epsilon={value!r}")


def gaussian(subject: Subject) -> Iterator[str]:
    """A fit gives a Gaussian of a form that model files know."""
    fitted = subject.fit(_embeddings(MANY))
    if not isinstance(fitted, Gaussian):
        yield f"fit gives a {type(fitted).__name__}: expected a padim_zoo.gaussians.gaussian.Gaussian"
    elif FORMS.get(getattr(fitted, "form", "")) is not type(fitted):
        yield f"fit gives a {type(fitted).__name__}, which model files do not know: expected one of {', '.join(FORMS)}"


def squared_distances(subject: Subject) -> Iterator[str]:
    """(P, N), float32, finite, not negative, for any number of images."""
    others = _embeddings(5, seed=1)
    for count in (MANY, FEW, 2, 1):
        squared = subject.fit(_embeddings(count)).squared_distances(others)
        where = f"fitted on {count} images, squared distances"
        if tuple(squared.shape) != (others.P, others.n):
            yield f"{where} have the shape {tuple(squared.shape)}: expected (patches, images), {(others.P, others.n)}"
        elif squared.dtype != torch.float32:
            yield f"{where} are {squared.dtype}: expected torch.float32"
        elif not squared.isfinite().all():
            yield f"{where} are not all finite: is a covariance without full rank inverted? add epsilon to its diagonal"
        elif (squared < 0).any():
            yield f"{where} are negative: does a difference cancel?"


def mahalanobis(subject: Subject) -> Iterator[str]:
    """Squared distances are a quadratic form about the mean: 0 there, 4 times as large twice as far away.

    The mean may be one of each patch, or one of several.
    """
    normal = _embeddings(MANY)
    fitted = subject.fit(normal)
    mean = fitted.mean
    overall, expected = (each[slice(0, each.P)].mean((0, 1)) for each in (mean, normal.mean()))
    if (off := _difference(overall, expected)) > TOLERANCE:
        yield f"the mean of all patches is off by {off:.2g} from that of the normal images"
    step = _embeddings(3, seed=2, scale=2.0) - mean
    once, twice, back = (fitted.squared_distances(each) for each in (mean + step, mean + step + step, mean - step))
    at_mean = fitted.squared_distances(mean)
    if float(at_mean.max()) > TOLERANCE * float(once.mean()):
        yield f"at its mean it is {float(at_mean.max()):.3g}: expected 0"
    if (off := _difference(twice, 4 * once)) > TOLERANCE:
        ratio = float((twice / once.clamp_min(1e-30)).median())
        hint = ": is the root taken already?" if abs(ratio - 2) < 0.1 else ""
        yield f"twice as far from the mean it is {ratio:.3g} times as large, and expected 4 (off by {off:.2g}){hint}"
    if _difference(back, once) > TOLERANCE:
        yield "on the other side of the mean it is different: expected the same"


def determinism(subject: Subject) -> Iterator[str]:
    """The same images give the same distances, in whatever order they come, and are left as they were."""
    normal, others = _embeddings(MANY), _embeddings(5, seed=1)
    before = [layer.clone() for layer in normal.layers]
    first = subject.fit(normal).squared_distances(others)
    if not all(torch.equal(layer, old) for layer, old in zip(normal.layers, before, strict=True)):
        yield "a fit changes the embeddings that it is given: others are fitted on them too"
        return
    if not torch.equal(subject.fit(normal).squared_distances(others), first):
        yield "a second fit on the same images gives other distances: draw from a seed"
    shuffled = normal.images(np.random.default_rng(3).permutation(MANY))
    if _difference(subject.fit(shuffled).squared_distances(others), first) > TOLERANCE:
        yield "the order of the normal images changes distances: expected no more than rounding"


def batch_invariance(subject: Subject) -> Iterator[str]:
    """The distances of an image do not depend on those scored with it."""
    fitted, others = subject.fit(_embeddings(MANY)), _embeddings(6, seed=1)
    together = fitted.squared_distances(others)
    alone = torch.cat([fitted.squared_distances(others.images(np.array([image]))) for image in range(6)], dim=1)
    if alone.shape != together.shape or _difference(alone, together) > TOLERANCE:
        yield "an image has other distances when it is scored alone: expected no more than rounding"


def moments(subject: Subject) -> Iterator[str]:
    """Moments, which stand in where samples fit no memory, give the same as samples."""
    others = _embeddings(5, seed=1)
    for count in (MANY, FEW):
        normal = _embeddings(count)
        expected = subject.fit(normal).squared_distances(others)
        try:
            squared = subject.make().fit(Moments.of(normal, normal.mean())).squared_distances(others)
        except Exception as error:
            yield (
                f"it cannot be fitted to Moments ({in_one_line(error)}): use n, P, D, mean, scatter, squares and "
                "sum_fourth_powers of the statistics only"
            )
            return
        if (off := _difference(squared, expected)) > 10 * TOLERANCE:
            yield f"of {count} images, Moments give distances that are off by {off:.2g} from those of Samples"


def constant_images(subject: Subject) -> Iterator[str]:
    """Normal images that do not vary at all still give finite distances."""
    constant = _embeddings(1).images(np.zeros(4, dtype=np.int64))
    if not subject.fit(constant).squared_distances(_embeddings(3, seed=1)).isfinite().all():
        yield "fitted on equal images it gives distances that are not finite: add epsilon to the diagonal"


def arrays(subject: Subject) -> Iterator[str]:
    """The arrays of the Gaussian, as a file keeps them, give it again."""
    others = _embeddings(5, seed=1)
    for count in (MANY, FEW):
        fitted = subject.fit(_embeddings(count))
        expected = fitted.squared_distances(others)
        for half, tolerance in ((False, 1e-6), (True, 2 * HALF_ERROR)):
            tensors = fitted.arrays(half=half)
            if not all(isinstance(array, Tensor) for array in tensors.values()):
                yield "arrays() gives objects that are not tensors"
                return
            again = type(fitted).from_arrays(fitted.mean, tensors)
            if (off := _difference(again.squared_distances(others), expected)) > tolerance:
                yield f"built again from arrays(half={half}), distances are off by {off:.2g}: expected {tolerance:.0e}"
        if not isinstance(fitted.size_in_bytes(), int) or fitted.size_in_bytes() <= 0:
            yield f"size_in_bytes gives {fitted.size_in_bytes()!r}: expected a number of bytes"


def model_file(subject: Subject) -> Iterator[str]:
    """A PaDiM with it scores the same after it was saved and loaded, and can be calibrated."""
    pixels = normal_images(6, 32, 32)
    detector = PaDiM(
        "scattering", subject.make(), n_components=5, resize=None, crop=None, sigma=0.0, precision="float32"
    )
    detector.fit(pixels)
    detector.calibrate()
    yield from same_after_loading(detector, pixels, "a PaDiM with it", rtol=5e-3, atol=1e-3)


def _difference(values: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the value expected or, where that is small, to the mean of all."""
    scale = torch.maximum(expected.abs(), expected.abs().mean().clamp_min(1e-30))
    return float(((values - expected).abs() / scale).max())
