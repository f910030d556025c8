"""The fields of a run document, each with its type and range, so that no reader of a store meets what it cannot use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from padim_zoo.bench.settings import SETTINGS
from padim_zoo.bench.status import DONE, FAILED, has_failed, is_done
from padim_zoo.core.fields import LARGEST_SIDE, is_finite, is_size, is_whole

Check = Callable[[Any], bool]

LARGEST = 2**53
"""Whole numbers up to which JSON's readers and tables agree."""


def is_text(value: Any) -> bool:
    """Whether a value is text."""
    return isinstance(value, str)


def is_count(value: Any) -> bool:
    """Whether a value is a whole number that a table holds."""
    return is_whole(value, 0, LARGEST)


def is_scalar(value: Any) -> bool:
    """Whether a value is text, a number, a truth value or None."""
    return value is None or isinstance(value, (str, bool)) or is_finite(value)


def none_or(check: Check) -> Check:
    """A check that lets None pass too."""
    return lambda value: value is None or check(value)


def list_of(check: Check) -> Check:
    """A check of a list by its values."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def map_of(check: Check) -> Check:
    """A check of an object by its values."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


_is_numbers = map_of(none_or(is_finite))
_is_shown = none_or(lambda value: list_of(is_scalar)(value) or is_scalar(value))
_is_side = none_or(lambda value: is_whole(value, 1, LARGEST_SIDE) or is_size(value))
_SETTINGS: dict[str | None, Check] = {
    "text": _is_shown,
    "integer": none_or(is_count),
    "number": none_or(is_finite),
    None: _is_shown,
}
_CONFIG: dict[str, Check] = {
    **{row.one: _SETTINGS[row.column] for row in SETTINGS.values() if row.recorded},
    **dict.fromkeys(("dataset", "category", "detector"), is_text),
    "layers": none_or(list_of(is_text)),
    "seed": lambda value: is_whole(value, 0, 2**32),
    "folds": lambda value: is_whole(value, 0, 2**32),
    **dict.fromkeys(("data", "weights_hash", "ensemble", "precision"), none_or(is_text)),
    "members": none_or(list_of(map_of(_is_shown))),
    "plugins": none_or(list_of(is_text)),
    "results_version": none_or(is_count),
}
_NEEDED_SETTINGS = ("dataset", "category", "detector", "seed", "folds")
_COVERAGE: dict[str, Check] = {
    **dict.fromkeys(("resize", "crop"), _is_side),
    **dict.fromkeys(("image_share", "annotated_share"), none_or(lambda value: is_finite(value) and 0 <= value <= 2)),
}
_DOCUMENT: dict[str, Check] = {
    "id": lambda value: is_text(value) and re.fullmatch(r"\w[\w.-]*", value) is not None,  # files are named by it
    "status": lambda value: value in (DONE, FAILED),
    "config": map_of(lambda value: True),
    "folds": list_of(_is_numbers),
    "timings": _is_numbers,
    "notes": list_of(is_text),
    "arrays": map_of(is_text),
    **dict.fromkeys(("created", "weights", "precision", "runtime"), none_or(is_text)),
    **dict.fromkeys(("drawn", "runtimes"), list_of(is_text)),
    **dict.fromkeys(("n_train", "n_test", "cached_images", "asked_resize"), none_or(is_count)),
    **dict.fromkeys(("interval", "threshold"), _is_numbers),
    "coverage": none_or(lambda value: value == {} or _is_coverage(value)),  # empty of a run that saw no image
    "corruptions": list_of(map_of(is_scalar)),
    "environment": none_or(map_of(is_scalar)),
    "error": none_or(map_of(is_scalar)),
}
_NEEDED = ("id", "status", "config", "folds", "timings", "notes", "arrays")


def find_problem(document: Mapping[str, Any]) -> str | None:
    """What is wrong with the fields of a run document, in words; None if nothing is."""
    if name := _amiss(document, _DOCUMENT, _NEEDED):
        return f"{name!r} is missing or of the wrong type"
    config, environment = document["config"], document.get("environment") or {}
    if name := _amiss(config, _CONFIG, _NEEDED_SETTINGS):
        return f"{name!r} of 'config' is missing or of the wrong type"
    if not all(map(none_or(is_text), map(environment.get, ("cpu", "gpu", "padim_zoo")))):
        return "'environment' has names that are not text"
    if config.get("ensemble") is not None and not _are_members(config):
        return "'config' names no members of its ensemble"
    if has_failed(document) and not _is_error(document.get("error")):
        return "'error' is missing or of the wrong type"
    if is_done(document) and not document["folds"]:
        return "'folds' is empty"
    return None


def _amiss(values: Mapping[str, Any], checks: Mapping[str, Check], needed: Any) -> str | None:
    """The first field that is not what it has to be, or is needed and absent."""
    for name, check in checks.items():
        if name in values and not check(values[name]):
            return name
    return next((name for name in needed if name not in values), None)


def _is_coverage(value: Any) -> bool:
    return isinstance(value, dict) and _amiss(value, _COVERAGE, _COVERAGE) is None


def _are_members(config: Mapping[str, Any]) -> bool:
    """Whether each member of an ensemble has a backbone and, if any, an estimator and layers."""
    members = [{**config, **member} for member in config.get("members") or ()]
    return bool(members) and all(
        is_text(member.get("backbone"))
        and none_or(is_text)(member.get("estimator"))
        and ("layers" not in members[0] or _CONFIG["layers"](member.get("layers")))
        for member in members
    )


def _is_error(error: Any) -> bool:
    return isinstance(error, dict) and all(is_text(error.get(name)) for name in ("type", "message"))
