"""How a run ended: the words of its document, of rows of a leaderboard and of reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DONE, FAILED = "done", "failed"
PARTIAL = "partial"
"""Of a mean that lacks runs."""


def is_done(document: Mapping[str, Any]) -> bool:
    """Whether a run has results."""
    return bool(document["status"] == DONE)


def has_failed(document: Mapping[str, Any]) -> bool:
    """Whether a run ended with an error."""
    return bool(document["status"] == FAILED)
