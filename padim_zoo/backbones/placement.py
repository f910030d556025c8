"""A backbone on the device and in the precision that are asked for."""

from __future__ import annotations

import warnings
from typing import Any

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import resolve_device, warn_if_slow
from padim_zoo.core.errors import InputError


def placed(backbone: Any, device: str, precision: str, fitted_in: str | None = None) -> Backbone:
    """A backbone that a factory made, where and as it is to compute.

    Parameters
    ----------
    backbone : Backbone
        In float32, unless it was given so.
    device, precision : str
        As a detector takes them.
    fitted_in : str, optional
        The precision of the fit, of a detector that is loaded: what ``"auto"`` means then, as far as it is fast here.

    Raises
    ------
    InputError
        If it is no Backbone, or the device is not there or the precision unknown.
    """
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"the backbone is a {type(backbone).__name__}: expected a padim_zoo.plugin.Backbone; wrap "
            "a network by Backbone(network, name=…, layers=…, strides=…, state=network.state_dict(), "
            "weights_source=…)"
        )
    where = resolve_device(device)
    asked = "float32" if (precision, fitted_in) == ("auto", "float32") else precision
    made = backbone.to(where).in_precision(asked)
    if asked == "auto" and fitted_in not in (None, made.precision):
        warnings.warn(
            f"the model was fitted in {fitted_in} and computes in {made.precision} here, where that is "
            "faster: scores move by up to about 3 %, and the threshold does not; a model fitted with precision "
            "float32 scores the same on every machine",
            stacklevel=3,
        )
    else:
        warn_if_slow(made.precision, where)
    return made
