"""Values as JSON holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from padim_zoo.core.printable import encodable


def to_jsonable(value: Any) -> Any:
    """The value with NaN and infinity, which JSON lacks, as None; numbers of NumPy are plain, keys are text.

    Text is such that UTF-8 takes it, see :func:`~padim_zoo.core.printable.encodable`.
    """
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, Mapping):
        return {encodable(str(name)): to_jsonable(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(part) for part in value]
    return to_jsonable(value.item()) if hasattr(value, "item") else value
