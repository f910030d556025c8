"""One of several parts, such as 3/16."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True, order=True)
class Shard:
    """The part of a number, from 1, of so many."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read one.

        Raises
        ------
        ValueError
            If the text is none.
        """
        match = _FORM.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(text)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
