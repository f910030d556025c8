"""What people write for a setting, on the command line or in YAML, to its value: ``reader(name, value)``.

The name is for messages. A reader leaves a value that was read already as it is.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import parse_bytes
from padim_zoo.core.shard import Shard

Reader = Callable[[str, Any], Any]


def import_late(place: str) -> Any:
    """What ``"package.module:name"`` stands for; imported when it is wanted, so that help is fast."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def text(name: str, value: Any) -> str:
    """Text that is not empty."""
    if not isinstance(value, (str, Path)) or not str(value):
        raise InputError(f"{name} is {value!r}: expected text")
    return str(value)


def pattern(name: str, value: Any) -> str:
    """A regular expression, as text."""
    try:
        re.compile(text(name, value))
    except re.error as error:
        raise InputError(f"{name} is {value!r}: expected a regular expression ({error})") from None
    return str(value)


def path(name: str, value: Any) -> Path:
    """A file or folder; ``~`` is the home folder."""
    return Path(text(name, value)).expanduser()


def number(name: str, value: Any, *, least: float = 0.0) -> float:
    """A finite number."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}: expected a number") from None
    if not least <= result < float("inf"):
        raise InputError(f"{name} is {result:g}: expected a number, {least:g} or more")
    return result


def share(name: str, value: Any) -> float:
    """A number from 0 to 1."""
    result = number(name, value)
    if result > 1:
        raise InputError(f"{name} is {result:g}: expected a number from 0 to 1")
    return result


def rate(name: str, value: Any) -> float:
    """A number above 0 and below 1."""
    return _above_0_and_below(1, name, value, "e.g. 0.05")


def share_of_defects(name: str, value: Any) -> float:
    """A number above 0 and below 1."""
    return _above_0_and_below(1, name, value, "or none")


def share_to_trim(name: str, value: Any) -> float | str:
    """A number above 0 and below 0.5, or ``"auto"``."""
    return "auto" if value == "auto" else _above_0_and_below(0.5, name, value, "e.g. 0.05, or auto")


def share_of_patches(name: str, value: Any) -> float:
    """A number above 0 and below 0.5."""
    return _above_0_and_below(0.5, name, value, "e.g. 0.05")


def _above_0_and_below(limit: float, name: str, value: Any, otherwise: str) -> float:
    try:
        result = number(name, value)
    except InputError:  # which says less
        result = 0.0
    if not 0 < result < limit:
        raise InputError(f"{name} is {value}: expected a number above 0 and below {limit:g}, {otherwise}")
    return result


def rising_rates(name: str, value: Any) -> tuple[float, float]:
    """Two rising false positive rates, as text or as a list."""
    parts = split(value) if isinstance(value, str) else sequence(name, value)
    rates = [number(name, part) for part in parts]
    if len(rates) != 2 or not 0 < rates[0] < rates[1] <= 1:
        found = ",".join(map(str, parts))
        raise InputError(f"{name} is {found}: expected two rising false positive rates, such as 1e-5,1e-4")
    return rates[0], rates[1]


def integer(name: str, value: Any, *, least: int = 0, otherwise: str = "") -> int:
    """A whole number; ``otherwise`` says in messages what else is possible."""
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
        result = int(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}: expected an integer{otherwise}") from None
    if result < least:
        raise InputError(f"{name} is {result}: expected {least} or more{otherwise}")
    return result


def at_least(least: int, otherwise: str = "") -> Reader:
    """Reads whole numbers from ``least`` on."""
    return partial(integer, least=least, otherwise=otherwise)


DEVICES = [
    "cpu",
    "cuda",
    "fpga",
    "hip",
    "hpu",
    "ipu",
    "lazy",
    "maia",
    "mps",
    "mtia",
    "privateuseone",
    "ve",
    "vulkan",
    "xla",
    "xpu",
]
"""The kinds of devices of torch that can hold a tensor; which of them are there, torch says."""


def device(name: str, value: Any) -> str:
    """A device as torch calls it, or ``auto``."""
    kind, colon, number = text(name, value).partition(":")
    numbered = number.isdecimal() if colon else True
    if value != "auto" and not (kind in DEVICES and numbered):
        raise InputError(f"{name} is {value!r}: expected auto, cpu or cuda")
    return str(value)


def bands(name: str, value: Any) -> str | int:
    """``auto``, or a number of bands."""
    return "auto" if value == "auto" else integer(name, value, least=1, otherwise=" or auto")


def tiles(name: str, value: Any) -> str:
    """Rows and columns of tiles, or their size and overlap, in one form of text."""
    from padim_zoo.features.tiles import Tiles  # it takes NumPy, which help does not

    return str(Tiles.parse(text(name, value)))


def one_of(*choices: str, late: str | None = None) -> Reader:
    """Reads one of some words; ``late`` says where they are to be imported from."""

    def read(name: str, value: Any) -> str:
        words = choices if late is None else tuple(import_late(late))
        if value not in words:
            raise InputError(f"{name} is {value!r}: expected {', '.join(words[:-1])} or {words[-1]}")
        return str(value)

    return read


def switch(name: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}: expected true or false")
    return value


def size(name: str, value: Any) -> Any:
    """Pixels: N, or height and width."""
    from padim_zoo.data.transform import check_size, parse_size

    return check_size(name, parse_size(value) if isinstance(value, str) else value)


PROTOCOL = "protocol"
"""Stands for the resize or the crop that a data set declares, else for a detector's own default."""


def size_or_protocol(name: str, value: Any) -> Any:
    """As :func:`size`, or :data:`PROTOCOL`."""
    return value if value == PROTOCOL else size(name, value)


def operations(name: str, value: Any) -> str:
    """Operations of :mod:`padim_zoo.data.augmentation`, as text or as a list of it, in one spelling."""
    from padim_zoo.data.augmentation import canonical_operations

    return canonical_operations(name, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value)


def corruptions(name: str, value: Any) -> str:
    """Corruptions of :mod:`padim_zoo.data.corruptions`, as text or as a list of it, in one spelling."""
    from padim_zoo.data.corruptions import canonical_corruptions

    return canonical_corruptions(name, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value)


def map_score(name: str, value: Any) -> str:
    """How a map gives a score, in one spelling."""
    from padim_zoo.detectors.map_score import MapScore  # it takes the registries, which a leaderboard does not need

    return str(MapScore.parse(text(name, value)))


def colormap(name: str, value: Any) -> str:
    """The name of a color map."""
    from padim_zoo.pictures.colormap import color_table  # it takes NumPy, and matplotlib for all names but one

    color_table(text(name, value))
    return str(value)


def memory(name: str, value: Any) -> int:
    """Bytes: ``4GB``, ``500MB``, ``4e9``."""
    return parse_bytes(name, str(value), least=1)


def shard(name: str, value: Any) -> str:
    """One of several parts, such as 3/16."""
    try:
        return str(Shard.parse(text(name, value).strip()))
    except ValueError:
        raise InputError(f"{name} is {value!r}: expected one of several parts, such as 3/16") from None


CLUSTER_ADDRESSES = ("local", "tcp://", "tls://", "file:")


def cluster(name: str, value: Any) -> str:
    """Where a Dask cluster is."""
    address = text(name, value)
    if address != "local" and not address.startswith(CLUSTER_ADDRESSES[1:]):
        expected = "local, tcp://HOST:PORT, tls://HOST:PORT or file:scheduler.json"
        raise InputError(f"{name} is {address!r}: expected the address of a Dask cluster, {expected}")
    return address


def names(name: str, value: Any) -> tuple[str, ...]:
    """Comma-separated names."""
    return tuple(split(",".join(texts(name, value))))


def texts(name: str, value: Any) -> tuple[str, ...]:
    """One text, or a list of them."""
    return (value,) if isinstance(value, str) else tuple(str(part) for part in sequence(name, value))


def sequence(name: str, value: Any) -> Sequence[Any]:
    """A list; a single number or path is one of length 1."""
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (int, float, Path)) and not isinstance(value, bool):
        return [value]
    raise InputError(f"{name} is {value!r}: expected text or a list")


def split(text: str, separator: str = ",") -> list[str]:
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
