"""Whose registrations are made just now, and how those of a plugin that fails are taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any


@dataclass
class Plugin:
    """A plugin while it is loaded, and what it takes to undo its registrations, in whichever registries they are."""

    source: str
    code: str
    undo: list[Callable[[], Any]] = field(default_factory=list)

    def take_back(self) -> None:
        """Undo all registrations. No plugin may have been loaded after this one."""
        while self.undo:
            self.undo.pop()()

    def before_setting(self, names: dict[str, Any], name: str) -> None:
        """Remember what ``name`` stands for now."""
        before = names.get(name)
        self.undo.append(partial(names.pop, name, None) if before is None else partial(names.update, {name: before}))


# Of the context and not of a registry: other threads may register names of their own meanwhile.
CURRENT: ContextVar[Plugin | None] = ContextVar("plugin being loaded", default=None)
# One for all registries, since loading one may load another.
LOADING = threading.RLock()


@contextmanager
def loading(plugin: Plugin | None) -> Iterator[None]:
    """Registrations inside are those of a plugin, or the package's own; if a plugin fails, all registries drop them."""
    token = CURRENT.set(plugin)
    try:
        yield
    except BaseException:
        if plugin is not None:
            plugin.take_back()
        raise
    finally:
        CURRENT.reset(token)
