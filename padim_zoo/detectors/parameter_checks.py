"""What parameters of detectors may be: each check refuses a value in one line, without torch."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.config import MAP_VALUES


def check_whole_number(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse what is not a whole number from ``least`` on.

    Raises
    ------
    InputError
        Naming the parameter, what was found and what was expected.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} is {value!r}: expected a whole number {bounds}")


def check_share(name: str, value: Any) -> None:
    """Refuse what is no share of a whole, in (0, 1].

    Raises
    ------
    InputError
        Naming the parameter, what was found and what was expected.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1:
        raise InputError(f"{name} is {value!r}: expected a number above 0 and up to 1")


def check_trim_patches(share: Any, augment: str | None) -> None:
    """Refuse what is no share of patches to trim, in (0, 0.5), and augmentation beside it.

    Raises
    ------
    InputError
        Naming what was found and what was expected.
    """
    if share is None:
        return
    is_number = isinstance(share, Real) and not isinstance(share, bool)
    if not is_number or not 0 < share < 0.5:
        raise InputError(f"trim_patches is {share!r}: expected a number above 0 and below 0.5, e.g. 0.05")
    if augment is not None:
        raise InputError("trim_patches excludes augment: views of one image vouch for each other; leave one out")


def check_map_values(values: Any) -> None:
    """Refuse what no map can hold.

    Raises
    ------
    InputError
        Naming what was found and what was expected.
    """
    if values is not None and values not in MAP_VALUES:
        raise InputError(f"map_values is {values!r}: expected {', '.join(MAP_VALUES)}, or None for scores")


def check_sigma(sigma: Any, image_size: tuple[int, int] | None = None) -> None:
    """Refuse a blur that is no finite number of pixels, or wider than the image where its size is known.

    Raises
    ------
    InputError
        Naming what was found and what was expected.
    """
    is_number = isinstance(sigma, Real) and not isinstance(sigma, bool)
    if not is_number or not math.isfinite(sigma) or sigma < 0:
        raise InputError(f"sigma is {sigma!r}: expected a number of pixels, 0 for no blur")
    if image_size is not None and sigma > max(image_size):
        raise InputError(
            f"sigma is {sigma:g}, but the images have {image_size[0]}x{image_size[1]} pixels after the transform: "
            f"expected at most {max(image_size)}, usually 4"
        )
