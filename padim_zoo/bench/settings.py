"""Settings as people write them, on the command line or in YAML, to the values a suite holds."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from padim_zoo import registry
from padim_zoo.bench.run import Size
from padim_zoo.core.errors import InputError
from padim_zoo.data.augmentation import canonical_operations
from padim_zoo.data.transform import parse_size


def split_specs(text: str, separator: str = ",") -> list[str]:
    """Split at the separators outside parentheses: ``full,shrinkage(0.1, epsilon=0)`` is two specs."""
    parts = [""]
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def canonical_spec(spec: str) -> str:
    """One spelling for equal specs: ``shrinkage( .10,epsilon=0 )`` is ``shrinkage(0.1, epsilon=0)``."""
    name, positional, keywords = registry.parse_spec(spec)
    arguments = [repr(value) for value in positional]
    arguments += [f"{key}={value!r}" for key, value in sorted(keywords.items())]
    return f"{name}({', '.join(arguments)})" if arguments else name


def canonical_estimator(spec: str) -> str:
    """One spelling for equal estimators: ``full``, ``full(0.01)`` and ``full(epsilon=0.01)`` are ``full``.

    Arguments go by their names, and those that have their default are left out. An estimator that does not give its
    parameters keeps the arguments as they were written.

    Raises
    ------
    InputError
        If the estimator is unknown or refuses its arguments.
    """
    made = registry.estimators.create(spec)
    name = registry.parse_spec(spec)[0]
    known = inspect.signature(registry.estimators.entry(name).factory).parameters
    given = made.get_params() if hasattr(made, "get_params") else {}
    if set(given) != set(known):
        return canonical_spec(spec)
    arguments = [f"{key}={given[key]!r}" for key, parameter in known.items() if given[key] != parameter.default]
    return f"{name}({', '.join(arguments)})" if arguments else name


def check_leaves_settings(detector: str, settings: Iterable[str]) -> None:
    """Refuse the spec of a detector with arguments that the settings of the suite decide.

    A run is recorded under the settings, and the ground truth is brought to their geometry: an argument that silently
    won over them would be recorded wrongly.

    Raises
    ------
    InputError
        Naming the argument and the setting to use.
    """
    name, positional, keywords = registry.parse_spec(detector)
    try:
        given = inspect.signature(registry.detectors.entry(name).factory).bind_partial(*positional, **keywords)
    except TypeError as error:
        raise InputError(f"detector {detector!r}: {error}") from None
    for argument in given.arguments:
        if argument in settings:
            option = {"backbone": "backbones", "estimator": "estimators", "seed": "seeds"}.get(argument, argument)
            raise InputError(
                f"the detector {detector!r} sets {argument}, which is for the whole suite: use "
                f"--{option.replace('_', '-')} instead"
            )


def setting_of(backbone: str, settings: Iterable[str]) -> str | None:
    """The value that ``[BACKBONE=]VALUE`` settings give to one backbone; its own beats that for all, later ones win."""
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
        if all(setting_of(backbone, [setting]) is None for backbone in backbones):
            raise InputError(
                f"{option} {setting!r} is of none of the backbones asked for, {', '.join(backbones)}: "
                "expected VALUE or BACKBONE=VALUE"
            )


def _specs(name: str, value: Any) -> tuple[str, ...]:
    """Comma-separated text, or a list."""
    parts = split_specs(value) if isinstance(value, str) else [str(part) for part in _list(name, value)]
    return tuple(parts)


def _settings(name: str, value: Any) -> tuple[str, ...]:
    """One text, a list of them, or a mapping of backbones to values."""
    if isinstance(value, Mapping):
        return tuple(f"{backbone}={','.join(_texts(name, given))}" for backbone, given in value.items())
    return _texts(name, value)


def _layers(name: str, value: Any) -> tuple[str, ...]:
    """As :func:`_settings`, but a plain list is the layers of all backbones, as ``a,b`` is."""
    texts = _settings(name, value)
    return texts if isinstance(value, Mapping) or any("=" in text for text in texts) else (",".join(texts),)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(str(part) for part in _list(name, value))


def _paths(name: str, value: Any) -> tuple[Path, ...]:
    return tuple(Path(text).expanduser() for text in _texts(name, value))


def _path(name: str, value: Any) -> Path:
    return Path(_text(name, value)).expanduser()


def _text(name: str, value: Any) -> str:
    if not isinstance(value, (str, Path)) or not str(value):
        raise InputError(f"{name} is {value!r}: expected text")
    return str(value)


def _operations(name: str, value: Any) -> str | None:
    """Text, or a list of operations; ``none`` for none."""
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else _text(name, value)
    return None if text.strip().lower() == "none" else canonical_operations(name, text)


def _integer(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}: expected an integer") from None


def _integers(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, int):
        return (_integer(name, value),)
    return tuple(_integer(name, part) for part in _specs(name, value))


def _train_sizes(name: str, value: Any) -> tuple[int | None, ...]:
    """Numbers of images; ``all`` is None."""
    try:
        if isinstance(value, int):
            return (_integer(name, value),)
        return tuple(None if part == "all" else _integer(name, part) for part in _specs(name, value))
    except InputError as error:
        raise InputError(f"{error}, or all") from None


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}: expected a number") from None


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}: expected true or false")
    return value


def _size(name: str, value: Any) -> Size:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return _integer(name, value[0]), _integer(name, value[1])
    return parse_size(_text(name, value))


def _list(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (int, float, Path)) and not isinstance(value, bool):
        return [value]
    raise InputError(f"{name} is {value!r}: expected text or a list")


READERS: dict[str, Callable[[str, Any], Any]] = {
    "backbones": _specs,
    "estimators": _specs,
    "detectors": _specs,
    "dataset": _text,
    "data_root": _path,
    "categories": _specs,
    "normal": _path,
    "abnormal": _path,
    "masks": _path,
    "folds": _integer,
    "seeds": _integers,
    "train_sizes": _train_sizes,
    "ensemble": _texts,
    "ensemble_rule": _text,
    "layers": _layers,
    "n_components": _integer,
    "reduction": _text,
    "resize": _size,
    "crop": _size,
    "sigma": _number,
    "augment": _operations,
    "passes": _integer,
    "tta": _operations,
    "roi": _path,
    "weights": _settings,
    "device": _text,
    "precision": _text,
    "batch_size": _integer,
    "cache": _boolean,
    "gallery": _boolean,
    "runtimes": _specs,
    "jobs": _integer,
    "plugin": _paths,
    "output": _path,
}
"""How each setting is read: a function of its name, for messages, and its value."""
