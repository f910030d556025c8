"""A table of numbers as bytes: csv, json and parquet."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from typing import Any

import pandas as pd

from padim_zoo.core.errors import MissingExtraError
from padim_zoo.core.jsonable import to_jsonable
from padim_zoo.core.printable import printable, without_formula


def to_csv(board: pd.DataFrame) -> bytes:
    """Comma-separated, with a header; an empty field for what is undefined.

    Text is on one line and computes nothing, see :func:`~padim_zoo.core.printable.without_formula`.
    """
    plain = board.map(lambda value: without_formula(printable(value)) if isinstance(value, str) else value)
    text: str = plain.to_csv(index=False)
    return text.encode()


def to_json(board: pd.DataFrame) -> bytes:
    """A list of records; null for what is undefined."""
    return (json.dumps(records(board), indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def to_parquet(board: pd.DataFrame) -> bytes:
    """Apache Parquet.

    Raises
    ------
    MissingExtraError
        Without pyarrow.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet", "a table in Parquet")
    buffer = io.BytesIO()
    board.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": to_csv,
    "json": to_json,
    "parquet": to_parquet,
}


def records(board: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values, None for what is undefined."""
    plain = board.astype(object).where(board.notna(), None)
    rows: list[dict[str, Any]] = to_jsonable(plain.to_dict("records"))
    return rows


def cell(value: Any) -> str:
    """One value for a reader: four digits, and a dash for what is undefined."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
