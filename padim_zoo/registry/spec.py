"""Text that names something registered, with arguments if wanted: ``shrinkage(0.2, epsilon=0)``."""

from __future__ import annotations

import ast
import re
from typing import Any

from padim_zoo.core.errors import InputError

_SPEC = re.compile(r"(?P<name>[^()]+?)\s*(?:\((?P<arguments>.*)\))?")

_BARE_WORD = re.compile(
    r"[(,]\s*(?P<key>\w+=)?(?!(?:None|True|False)\s*[,)])(?P<word>[A-Za-z][\w.-]*)\s*(?=[,)])", re.ASCII
)


_PERCENT = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*%")

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")

_NO_NUMBERS = ("nan", "inf", "infinity")


def write_spec(name: str, *positional: Any, **keywords: Any) -> str:
    """The inverse of :func:`parse_spec`."""
    arguments = [*map(repr, positional), *(f"{key}={value!r}" for key, value in keywords.items())]
    return f"{name}({', '.join(arguments)})" if arguments else name


def parse_spec(spec: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Split ``"shrinkage(0.2, epsilon=0)"`` into its name, positional and keyword arguments.

    Arguments are Python literals.

    Raises
    ------
    InputError
        If the text is not of that form.
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise InputError(f"cannot read {spec!r}: expected NAME or NAME(argument, key=value)")
    name, arguments = match["name"].strip(), match["arguments"]
    if not arguments:
        return name, [], {}
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        assert all(keyword.arg is not None for keyword in call.keywords)
        positional = [ast.literal_eval(argument) for argument in call.args]
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise InputError(f"cannot read the arguments of {spec!r}: {_what_to_write(arguments)}") from None
    if len(keywords) < len(call.keywords):
        twice = next(key for key in keywords if sum(key == each.arg for each in call.keywords) > 1)
        raise InputError(f"{spec!r} gives {twice} twice: leave out one")
    return name, positional, keywords


def _what_to_write(arguments: str) -> str:
    """What to do about arguments that are no literals."""
    if percent := _PERCENT.search(_QUOTED.sub("", arguments)):
        return f"write {float(percent['number']) / 100:g} for {percent['number']}%"
    word = _BARE_WORD.search(f"({arguments})")
    if word is None:
        return "expected numbers or quoted text, name=value"
    if word["word"].lower() in _NO_NUMBERS:
        return f"expected a number, and {word['word']} is none"
    return f"write {word['key'] or ''}{word['word']!r}"
