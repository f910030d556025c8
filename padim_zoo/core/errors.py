"""The errors that a user can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something the caller gave cannot be used.

    The message is one line: what was found, what was expected and what to do. The command line
    prints it without a traceback and exits with status 2.
    """


class MissingExtraError(InputError, ImportError):
    """A feature needs packages that only an extra of padim-zoo installs.

    Parameters
    ----------
    package : str
        The import that failed.
    extra : str
        The extra that brings it.
    purpose : str
        What was asked for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed: pip install 'padim-zoo[{extra}]', or in a "
            f"clone pip install -e '.[{extra}]'"
        )


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Within it a package that cannot be imported is a :class:`MissingExtraError`."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(error.name or extra, extra, purpose) from None
