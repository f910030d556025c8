"""What a broken contract is, and how all of its violations are collected before one error is raised."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import isgeneratorfunction
from pathlib import Path
from typing import Any, Generic, TypeVar

from padim_zoo.core.errors import InputError
from padim_zoo.registry import Registry, parse_spec

Subject = TypeVar("Subject")
Check = Callable[[Subject], Iterator[str]]
"""Yields one line for each thing that is wrong; its name, with spaces, is what is checked."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Registered(Generic[Made]):
    """What is registered under a name and is checked, and how to make others like it.

    Attributes
    ----------
    registry : Registry
    spec : str
        The name, with arguments if wanted.
    made : object
        With the options.
    options : dict
        Of its factory.
    """

    registry: Registry[Made]
    spec: str
    made: Any
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The registered name."""
        return parse_spec(self.spec)[0]

    def make(self, **options: Any) -> Any:
        """Another one, with other options."""
        return self.registry.create(self.spec, **{**self.options, **options})

    def listing(self) -> Iterator[str]:
        """A line if a listing says nothing of it."""
        if not self.registry.entry(self.name).summary:
            yield "there is no summary for padim-zoo list: give register(summary=…) or what is registered a docstring"


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong.

    Attributes
    ----------
    check : str
        What was looked at: ``"batch invariance"``.
    message : str
        What was found, what was expected and, where it is known, how to mend it.
    """

    check: str
    message: str


class ContractError(AssertionError):
    """A plugin does not keep the contract.

    Attributes
    ----------
    violations : tuple of Violation
        All that was found.
    """

    def __init__(self, subject: str, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        count = f"{len(violations)} ways" if len(violations) > 1 else "one way"
        lines = [f"  {violation.check}: {violation.message}" for violation in violations]
        super().__init__("\n".join([f"{subject} breaks the contract in {count}:", *lines]))


def run_checks(subject: str, made: Subject, checks: Sequence[Check[Subject]]) -> None:
    """Run every check, whatever the others find.

    Raises
    ------
    ContractError
        If any of them finds something, or ends in an error of its own.
    """
    violations = [Violation(title_of(check), line) for check in checks for line in _lines(check, made)]
    if violations:
        raise ContractError(subject, violations)


def checks_of(module: str) -> list[Check[Any]]:
    """The checks that are written in a module, in order: its public generators."""
    return [
        function
        for name, function in vars(sys.modules[module]).items()
        if isgeneratorfunction(function) and function.__module__ == module and not name.startswith("_")
    ]


def title_of(check: Callable[..., Any]) -> str:
    """What a check looks at, by the name of its function."""
    return check.__name__.replace("_", " ")


def _lines(check: Check[Subject], made: Subject) -> Iterator[str]:
    try:
        yield from check(made)
    except Exception as error:  # of the plugin: that it cannot be tried is a finding too
        yield f"raised {in_one_line(error)}{_place(error)}"


def in_one_line(error: BaseException) -> str:
    """Type and message of an error."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _place(error: BaseException) -> str:
    """Where it was raised, since the traceback is not shown."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def create(registry: Registry[Made], spec: str, expected: type[Made] | None, **options: Any) -> Made:
    """Make what is registered under a name.

    Raises
    ------
    ContractError
        If it cannot be made or is not what it should be: then there is nothing else to check.
    InputError
        If the name is not registered: the message lists the closest names.
    """
    registry.entry(spec.partition("(")[0].strip())
    subject = f"the {registry.kind} {spec!r}"
    try:
        made = registry.create(spec, **options)
    except Exception as error:
        arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
        message = f"cannot be made with {arguments or 'no options'}: {in_one_line(error)}{_place(error)}"
        raise ContractError(subject, [Violation("creation", message)]) from error
    if expected is not None and not isinstance(made, expected):
        message = f"is a {type(made).__name__}: expected a {expected.__module__}.{expected.__qualname__}"
        raise ContractError(subject, [Violation("creation", message)])
    return made


def refusal(action: Callable[..., Any], what: str, *arguments: Any, must_raise: bool = True) -> Iterator[str]:
    """A line if ``action`` does not end in an InputError of one line.

    Parameters
    ----------
    action : callable
        Does something with bad input.
    what : str
        The bad input, in words.
    *arguments
        What ``action`` is called with.
    must_raise : bool
        Whether it has to be refused; else it may work, too.
    """
    try:
        action(*arguments)
    except InputError as error:
        if "\n" in str(error) or not str(error):
            yield f"{what} raises an InputError of several lines, or none: expected one line, found {str(error)!r}"
    except Exception as error:
        yield f"{what} raises {in_one_line(error)}{_place(error)}: expected padim_zoo.InputError with one clear line"
    else:
        if must_raise:
            yield f"{what} is taken without complaint: expected padim_zoo.InputError with one clear line"
