"""The errors that a user can mend."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

BAD_INPUT = 2
"""Exit code of the command line for what the caller can mend."""
CANNOT_WRITE = 3
"""Exit code for a disk that is full, read-only or broken, or a folder that may not be written to."""

_NAMES = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EEXIST}
_DISK = {errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EFBIG}


class InputError(ValueError):
    """Something the caller gave cannot be used.

    The message is one line: what was found, what was expected and what to do. The command line
    prints it without a traceback and exits with :attr:`exit_code`.
    """

    exit_code = BAD_INPUT

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a traceback: the line."""
        return [f"{type(self).__name__}: {self}"]


class WriteError(InputError):
    """A file cannot be written.

    Parameters
    ----------
    what : path
        What was to be written.
    reason : str
    number : int or None
        Of the system's error, by which names that cannot be are told from disks that cannot be written to.
    """

    def __init__(self, what: object, reason: str, number: int | None = None) -> None:
        super().__init__(f"cannot write {what}: {reason}; expected a folder that can be written to, with room")
        self.exit_code = BAD_INPUT if number in _NAMES else CANNOT_WRITE


def exit_code_of(error: OSError) -> int:
    """The exit code for an error of the system."""
    return CANNOT_WRITE if error.errno in _DISK else BAD_INPUT


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
    why : str
        What is wrong with the package.
    """

    def __init__(self, package: str, extra: str, purpose: str, why: str = "is not installed") -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which {why}: pip install 'padim-zoo[{extra}]', or in a "
            f"clone pip install -e '.[{extra}]'"
        )


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Within it a package that cannot be imported is a :class:`MissingExtraError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or extra, extra, purpose) from None
    except ImportError as error:
        why = f"cannot be imported ({error or 'it does not say why'})"
        raise MissingExtraError(error.name or f"of its extra {extra}", extra, purpose, why) from None
