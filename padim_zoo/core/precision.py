"""The names of precisions, and which one the environment asks for; what they are in torch is nothing to read here."""

from __future__ import annotations

import os

from padim_zoo.core.errors import InputError

AUTO = "auto"
PRECISIONS = ("float32", "bfloat16")
"""Types that a backbone may compute in."""
VARIABLE = "PADIM_ZOO_PRECISION"


def asked_precision(name: str) -> str:
    """``name`` itself; for ``"auto"`` what the environment variable ``PADIM_ZOO_PRECISION`` says, if anything.

    Raises
    ------
    InputError
        If there is no such precision.
    """
    problem = f"unknown precision {name!r}"
    if name == AUTO:
        name = os.environ.get(VARIABLE) or AUTO
        problem = f"the environment variable {VARIABLE} is {name!r}"
    if name not in (*PRECISIONS, AUTO):
        raise InputError(f"{problem}: expected {', '.join(PRECISIONS)} or {AUTO}")
    return name
