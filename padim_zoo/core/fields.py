"""Fields of a JSON document of a file, each with its type and range, so that nothing is made of one that is amiss."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

LARGEST_SIDE = 10_000
"""Pixels of a side of an image after the transform, at most."""


DEEPEST = 100
"""Levels of lists and objects within each other, at most: code that walks a document recurses as deep."""


class FieldError(ValueError):
    """A field that is absent, or not what it has to be; says which, and what was expected."""


def read_json(text: str | bytes | None) -> Any:
    """A JSON document without NaN or infinity, which JSON lacks.

    Raises
    ------
    FieldError
        If the text is none, or nests too deeply.
    """

    def refuse(constant: str) -> Any:
        raise FieldError(f"it holds {constant}, which is not a number")

    try:
        document = json.loads(text or "", parse_constant=refuse)
    except FieldError:
        raise
    except (ValueError, RecursionError) as error:
        raise FieldError(f"it is no JSON ({error})") from None
    level = [document]
    for _ in range(DEEPEST):
        level = [value for part in level if isinstance(part, (dict, list)) for value in _values(part)]
        if not level:
            return document
    raise FieldError(f"it nests deeper than {DEEPEST} levels")


def _values(part: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return part.values() if isinstance(part, dict) else part


@dataclass(frozen=True)
class Fields:
    """The fields of one object of a document.

    Attributes
    ----------
    values : mapping
    within : str
        What names of fields are told with before them.
    """

    values: Mapping[str, Any]
    within: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping):
            raise FieldError(f"{self.within.rstrip('.') or 'it'} is not an object")

    def _read(self, name: str, allowed: Callable[[Any], bool], expected: str) -> Any:
        if name not in self.values:
            raise FieldError(f"{self.within}{name} is missing")
        value = self.values[name]
        if not allowed(value):
            raise FieldError(f"{self.within}{name} is {str(value)[:40]!r}: expected {expected}")
        return value

    def text(self, name: str, among: Sequence[str] | None = None) -> str:
        """Text, one of ``among`` if that is given."""
        expected = "text" if among is None else f"one of {', '.join(among)}"
        return str(self._read(name, lambda v: isinstance(v, str) and (among is None or v in among), expected))

    def flag(self, name: str) -> bool:
        """True or false."""
        return bool(self._read(name, lambda v: isinstance(v, bool), "true or false"))

    def whole(self, name: str, least: int = 0, most: int = 2**31) -> int:
        """A whole number from ``least`` to ``most``."""
        return int(self._read(name, lambda v: is_whole(v, least, most), f"a whole number from {least} to {most}"))

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number from ``low`` to ``high``."""
        return float(self._read(name, lambda v: is_finite(v) and low <= v <= high, "a finite number"))

    def sizes(self, name: str) -> tuple[int, int]:
        """Height and width of an image."""
        value = self._read(name, is_size, f"height and width, up to {LARGEST_SIDE} pixels each")
        return (value[0], value[1])

    def fields(self, name: str) -> Fields:
        """An object within this one."""
        return Fields(self._read(name, lambda v: isinstance(v, Mapping), "an object"), f"{self.within}{name}.")

    def array(self, name: str, most: int = 10_000) -> list[Any]:
        """A list."""
        return list(self._read(name, lambda v: isinstance(v, list) and len(v) <= most, "a list"))

    def or_none(self, name: str, read: Callable[[str], T]) -> T | None:
        """What ``read`` gives, or None where the field is null."""
        return None if name in self.values and self.values[name] is None else read(name)


def is_whole(value: Any, least: int, most: int) -> bool:
    """Whether a value is a whole number from ``least`` to ``most``."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number, one that a float holds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_size(value: Any) -> bool:
    """Whether a value is height and width of an image."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(is_whole(n, 1, LARGEST_SIDE) for n in value)
