"""What to try in place of a name that is unknown."""

from __future__ import annotations

from collections.abc import Iterable


def suggest(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """The end of an error's line: ``did you mean a, b?``.

    Parameters
    ----------
    name : str
        The unknown name.
    names : iterable of str
        Those that there are.
    otherwise : str
        What is said where none of them is close; by default ``expected one of`` all of them.
    """
    import difflib  # only an error needs it

    by_lower_case = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(by_lower_case[match] for match in close)}?"
    return otherwise or f"expected one of {', '.join(by_lower_case.values())}"
