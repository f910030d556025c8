"""What a setting is: its name, how it is read, its default, who takes it, and where it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from padim_zoo.bench import readers
from padim_zoo.core.errors import InputError

Form = Literal["value", "list", "repeated", "by backbone", "switch", "flag"]
Kind = Literal["text", "integer", "number"]


class Unset(str):
    """Words for what holds where a setting is not given."""


_NOTHING = Unset("")


@dataclass(frozen=True)
class Setting:
    """A row of :data:`padim_zoo.bench.settings.SETTINGS`.

    Attributes
    ----------
    name : str
        As a suite and a YAML file call it: plural, where a suite takes a grid of values.
    read : callable
        Makes a value of what a person wrote, as :mod:`padim_zoo.bench.readers` does.
    help : str
    panel : str
        Heading of ``--help`` that the option stands under.
    default : object
        A value, or :class:`Unset`.
    defaults : mapping of str
        Other defaults, by command.
    commands : tuple of str
        Those that take it.
    form : str
        ``"value"``; ``"list"``, comma-separated: a grid or a choice; ``"repeated"``; ``"by backbone"``, repeated as
        ``[BACKBONE=]VALUE``; ``"switch"``, with an option that says no; or ``"flag"``, without one.
    one : str
        What is called after one value of a list: an option of commands that take one, an argument of a detector, a part
        of a run's configuration, a column.
    lists_in : tuple of str
        Commands that take several values; the others take one.
    metavar : str
    none : str, optional
        The word for None where that is a value, and not the lack of one.
    recorded : bool
        It decides results: it is part of the configuration of a run, and so of its id.
    parameter : bool
        Detectors may take it as an argument, under the name ``one``.
    optional : bool
        A detector has to take it when it is given, and the spec of a detector may set it when it is not.
    column : str, optional
        What the column of the leaderboard holds: ``"text"``, ``"integer"`` or ``"number"``.
    resolve : callable, optional
        What a value stands for where an environment variable may say it. Refuses a variable that says nonsense, unless
        the value leaves it unread.
    resolved_in : tuple of str
        Commands without the option that read the variable too.
    """

    name: str
    read: readers.Reader
    help: str
    panel: str = "Models"
    default: Any = _NOTHING
    defaults: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = ("bench",)
    form: Form = "value"
    one: str = ""
    lists_in: tuple[str, ...] = ("bench",)
    metavar: str = "NAME"
    none: str | None = None
    recorded: bool = False
    parameter: bool = False
    optional: bool = False
    column: Kind | None = None
    resolve: Callable[[Any], object] | None = None
    resolved_in: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "one", self.one or self.name)

    def form_in(self, command: str) -> Form:
        """The form of the option of a command."""
        return self.form if command in self.lists_in or self.form in ("repeated", "switch", "flag") else "value"

    def name_in(self, command: str) -> str:
        """What a command calls it."""
        return self.name if command in self.lists_in else self.one

    def option_in(self, command: str) -> str:
        """The option of a command."""
        return f"--{self.name_in(command).replace('_', '-')}"

    def default_in(self, command: str) -> Any:
        """The value, or the words for it, that holds in a command where nothing is given."""
        default = self.defaults.get(command, self.default)
        several = self.form == "list" and isinstance(default, tuple) and command not in self.lists_in
        return default[0] if several else default

    def value_in(self, command: str) -> Any:
        """What a command gets where nothing is given."""
        default = self.default_in(command)
        empty = () if self.form_in(command) in ("list", "repeated", "by backbone") else None
        return empty if isinstance(default, Unset) else default

    def parse(self, value: Any, command: str = "bench", called: str | None = None) -> Any:
        """The value that a command or a suite works with; None stands for the default.

        Messages say ``called`` where that is not the name.

        Raises
        ------
        InputError
            Naming the setting, what was found and what was expected.
        """
        name, form = called or self.name_in(command), self.form_in(command)
        if value is None and not (self.none and form == "value"):
            return self.value_in(command)
        if form == "list":
            parts = readers.split(value) if isinstance(value, str) else readers.sequence(name, value)
            if not parts and self.value_in(command):
                raise InputError(f"{name} is empty: name at least one")
            return tuple(self._read(name, part) for part in parts)
        if form == "by backbone":
            return self._by_backbone(name, value)
        if form == "repeated":
            return tuple(self._read(name, part) for part in readers.texts(name, value))
        return self._read(name, value)

    def text(self, value: Any) -> str:
        """A value as :meth:`parse` reads it."""
        if value is None:
            return self.none or "none"
        if isinstance(value, (list, tuple)):
            return ("x" if all(isinstance(part, int) for part in value) else ",").join(map(self.text, value))
        return f"{value:g}" if isinstance(value, float) else str(value)

    def written(self, value: Any) -> str | None:
        """A value of a run as :meth:`text` gives it; None where there is none, and none is no value."""
        nothing = value is None and (self.none is None or self.value_in("bench") is None)
        return None if nothing else self.text(value)

    def _read(self, name: str, value: Any) -> Any:
        if self.none is not None and (value is None or str(value).strip().lower() == self.none):
            return None
        return self.read(name, value)

    def _by_backbone(self, name: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, Mapping):
            return tuple(f"{backbone}={','.join(readers.texts(name, part))}" for backbone, part in value.items())
        texts = readers.texts(name, value)
        joins = self.read is readers.names and not any("=" in text for text in texts)  # [a, b] is a,b
        return (",".join(texts),) if joins and texts else texts
