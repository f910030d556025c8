"""Numbers of things, in words."""

from __future__ import annotations

import re

_FORMS = re.compile(r"\{(.*?)\|(.*?)\}")


def number_of(count: int, noun: str) -> str:
    """So many of a thing: 1 image, 2 images."""
    return f"{count} {noun}{'s' * (count != 1)}"


def in_number(count: int, text: str) -> str:
    """So many of what a text tells of, which has the forms {of several|of one}."""
    return f"{count} {_FORMS.sub(lambda forms: forms[1 + (count == 1)], text)}"
