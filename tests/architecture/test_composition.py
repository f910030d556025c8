"""Detectors hold what they use: none stands on a tower of classes, and their parameters are dataclasses of fields."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from types import FunctionType

import pytest

import padim_zoo.detectors
from padim_zoo.detectors import config
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.registry import detectors

MOST_ANCESTORS = 2
MODULES = [
    importlib.import_module(f"padim_zoo.detectors.{module.name}")
    for module in pkgutil.iter_modules(padim_zoo.detectors.__path__)
]
CLASSES = [
    kind
    for module in MODULES
    for kind in vars(module).values()
    if inspect.isclass(kind) and kind.__module__ == module.__name__
]


def methods(kind: type) -> list[str]:
    """The methods that are written in a class, and not made by ``dataclass``."""
    written = (FunctionType, classmethod, staticmethod, property)
    made = {"__init__", "__replace__"} if "__dataclass_params__" in vars(kind) else set()
    return [name for name, value in vars(kind).items() if isinstance(value, written) and name not in made]


def ancestors(kind: type) -> list[type]:
    """Ancestors with methods, but for those of Python and torch."""
    others = ("abc", "builtins", "typing", "torch")
    return [base for base in kind.__mro__[1:] if base.__module__.partition(".")[0] not in others and methods(base)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_no_class_has_more_than_two_ancestors_with_methods(kind: type) -> None:
    assert len(ancestors(kind)) <= MOST_ANCESTORS


def test_a_tower_is_found() -> None:
    class Middle(BackboneDetector[object]):
        def shared(self) -> None:
            """A method on a floor of its own."""

    tower = type("Tower", (Middle,), {})
    assert ancestors(tower) == [Middle, BackboneDetector, Detector]
    assert len(ancestors(tower)) > MOST_ANCESTORS
    assert ancestors(PaDiM) == [BackboneDetector, Detector]


@pytest.mark.parametrize("name", ["padim", "patchcore", "spade", "mahalanobis-ad", "stfpm", "subspace"])
def test_parameters_are_the_fields_of_a_dataclass_in_config(name: str) -> None:
    kind = detectors.entry(name).factory
    parameters = inspect.signature(kind).parameters
    [fields_of] = [base for base in kind.__bases__ if base.__module__ == config.__name__]
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        field.name: field.default for field in dataclasses.fields(fields_of)
    }
    assert "__init__" not in vars(kind)
    positional = [name for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == ["backbone", "estimator"][: 2 if name == "padim" else 1]


def test_every_parameter_is_documented_once() -> None:
    for base in filter(dataclasses.is_dataclass, vars(config).values()):
        names = [line.partition(" : ")[0].strip() for line in (base.__doc__ or "").splitlines() if " : " in line]
        assert ", ".join(names).split(", ") == list(base.__annotations__)
