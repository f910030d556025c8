r"""Names of files as text that any terminal and any encoding takes: one escaped form, ``pr\xfcf.png``.

Python holds the bytes of a name that is not UTF-8 as surrogates, which no encoding writes.
"""

from __future__ import annotations

import re
import unicodedata

_SURROGATE = re.compile("[\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@")
_UNPRINTABLE = frozenset(("Cc", "Cf", "Zl", "Zp"))
"""Categories of Unicode that act on a terminal or hide: controls, formats (bidirectional too), line separators."""


def printable(text: object) -> str:
    r"""Text in which bytes that are not UTF-8, control and format characters are escaped: ``\xfc``, ``\n``, ``\u202e``.

    All other characters stay as they are, the backslash too. So the form is for reading, and not to be undone.
    """
    return "".join(
        _escaped(character) if unicodedata.category(character) in _UNPRINTABLE else character
        for character in encodable(str(text))
    )


def encodable(text: str) -> str:
    r"""Text in which only surrogates are escaped, ``\xfc`` for a byte of a name, so that UTF-8 takes it."""
    return _SURROGATE.sub(lambda match: _escaped(match[0]), text)


def without_formula(text: str) -> str:
    """Text of a table that a spreadsheet opens: an apostrophe before what it would compute, ``=``, ``+``, ``-``, ``@``.

    It is for cells of text. Numbers stay as they are.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name, as os.fsdecode holds it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
