"""Which runtimes ran the backbone in the fits of a model, and a warning where another one runs it now."""

from __future__ import annotations

import warnings

from padim_zoo.backbones.backbone import Backbone


def joined_runtimes(*runtimes: str | None) -> str:
    """What ran in several fits, each once, joined by ``+``; None for a fit that was not begun."""
    names = [name for each in runtimes if each is not None for name in each.split("+")]
    return "+".join(dict.fromkeys(names))


def warn_of_another_runtime(fitted_by: str, backbone: Backbone, verb: str, consequence: str, stacklevel: int) -> None:
    """Warn where none of the runtimes of the fits runs a backbone in 16 bits, in which its maps differ by a percent.

    Parameters
    ----------
    fitted_by : str
        As :func:`joined_runtimes` has it.
    backbone : Backbone
    verb : str
        What is done with the model, as ``"score"``.
    consequence : str
    stacklevel : int
        As of the caller.
    """
    names = fitted_by.split("+")
    if backbone.precision == "float32" or backbone.runtime in names:
        return
    warnings.warn(
        f"the model was fitted by {fitted_by} and is {verb.removesuffix('e')}ed by {backbone.runtime} in "
        f"{backbone.precision}: {consequence}; {verb} with --runtime {names[0]}, or fit with --precision float32",
        stacklevel=stacklevel + 1,
    )
