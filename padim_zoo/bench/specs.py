"""Text that names what is registered, with arguments if wanted, in one spelling; and values for single backbones."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from padim_zoo import registry
from padim_zoo.core.errors import InputError


def canonical_spec(spec: str) -> str:
    """One spelling for equal specs: ``shrinkage( .10,epsilon=0 )`` is ``shrinkage(0.1, epsilon=0)``."""
    name, positional, keywords = registry.parse_spec(spec)
    return registry.write_spec(name, *positional, **dict(sorted(keywords.items())))


def canonical_estimator(spec: str) -> str:
    """One spelling for equal estimators: ``full``, ``full(0.01)`` and ``full(epsilon=0.01)`` are ``full``.

    Arguments go by their names, and those that have their default are left out. An estimator that does not give its
    parameters keeps the arguments as they were written.

    Raises
    ------
    InputError
        If the estimator is unknown or refuses its arguments.
    """
    estimator = registry.estimators.create(spec)
    name = registry.parse_spec(spec)[0]
    parameters = inspect.signature(registry.estimators.entry(name).factory).parameters
    values = estimator.get_params() if hasattr(estimator, "get_params") else {}
    if set(values) != set(parameters):
        return canonical_spec(spec)
    return registry.write_spec(
        name, **{key: values[key] for key, entry in parameters.items() if values[key] != entry.default}
    )


def check_leaves_settings(detector: str, options: Mapping[str, str]) -> None:
    """Refuse the spec of a detector with arguments that the settings of the suite decide.

    A run is recorded under the settings, and the ground truth is brought to their geometry: an argument that silently
    won over them would be recorded wrongly.

    Parameters
    ----------
    detector : str
    options : mapping of str
        Arguments that are settings, and the options that give them.

    Raises
    ------
    InputError
        Naming the argument and the option to use.
    """
    name, positional, keywords = registry.parse_spec(detector)
    factory = registry.detectors.entry(name).factory
    try:
        bound = inspect.signature(factory).bind_partial(*positional, **keywords)
    except TypeError as error:
        raise registry.detectors.arguments_that_do_not_fit(detector, factory, error) from None
    for argument in bound.arguments:
        if argument in options:
            raise InputError(
                f"the detector {detector!r} sets {argument}, which is for the whole suite: use {options[argument]} "
                "instead"
            )


def value_for(backbone: str, settings: Iterable[str]) -> str | None:
    """What ``[BACKBONE=]VALUE`` settings give to one backbone; its own value beats that for all, later ones win."""
    for_all = own = None
    for setting in settings:
        pattern, sign, value = setting.partition("=")
        if not sign or Path(setting).exists():
            for_all = setting
        elif pattern == backbone or fnmatch.fnmatchcase(backbone, pattern):
            own = value
    return own if own is not None else for_all


def check_settings_apply(option: str, settings: Iterable[str], backbones: Sequence[str]) -> None:
    """Refuse ``BACKBONE=VALUE`` settings of backbones that are not asked for.

    Raises
    ------
    InputError
        Naming the setting and the backbones.
    """
    for setting in settings:
        if all(value_for(backbone, [setting]) is None for backbone in backbones):
            raise InputError(
                f"{option} {setting!r} is of none of the backbones asked for, {', '.join(backbones)}: "
                "expected VALUE or BACKBONE=VALUE"
            )
