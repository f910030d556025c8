"""Options of these scripts: numbers that make no sense are refused in one line, before anything is drawn or fitted."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

Value = TypeVar("Value")

LEAST_SIDE = 32
"""Pixels of the smallest image that backbones take."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without its usage."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def whole(least: int = 1) -> Callable[[str], int]:
    """Reads whole numbers from ``least`` on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from {least}")
        return int(text)

    return read


def above(bound: float, most: float = math.inf) -> Callable[[str], float]:
    """Reads finite numbers above a bound, up to ``most``."""

    def read(text: str) -> float:
        value = _number(text)
        if not (bound < value <= most and math.isfinite(value)):
            up_to = f" and up to {most:g}" if most < math.inf else ""
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a number above {bound:g}{up_to}")
        return value

    return read


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def within(least: float, most: float) -> Callable[[str], float]:
    """Reads numbers from ``least`` to ``most``."""

    def read(text: str) -> float:
        value = _number(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from {least:g} to {most:g}")
        return value

    return read


def several(read: Callable[[str], Value]) -> Callable[[str], list[Value]]:
    """Reads what is separated by commas."""
    return lambda text: [read(part) for part in text.split(",")]


def by_name(text: str) -> tuple[str, str]:
    """Reads ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=VALUE")
    return name, value
