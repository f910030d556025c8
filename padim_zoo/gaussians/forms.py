"""The forms of Gaussians by name, to build a saved one again from its arrays."""

from __future__ import annotations

from collections.abc import Mapping

from padim_zoo.gaussians.dual import DualGaussian
from padim_zoo.gaussians.gaussian import DiagonalGaussian, Gaussian, PrimalGaussian, TiedGaussian
from padim_zoo.gaussians.nested import NestedGaussian, SampledGaussian

FORMS: Mapping[str, type[Gaussian]] = {
    form.form: form
    for form in (PrimalGaussian, NestedGaussian, SampledGaussian, DualGaussian, DiagonalGaussian, TiedGaussian)
}
