"""The ways to adapt a backbone, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from padim_zoo.backbones.backbone import Backbone, hash_of
from padim_zoo.core.errors import InputError
from padim_zoo.core.suggest import suggest
from padim_zoo.finetune.adaptation import Adaptation
from padim_zoo.finetune.discriminants import DiscriminantRecipe, fit_discriminants
from padim_zoo.finetune.training import TrainingRecipe, train
from padim_zoo.registry import backbones

DISCRIMINANTS = "discriminants"
METHODS = (DISCRIMINANTS, "3-way")
"""Names of the ways; the first is the default."""


def make_recipe(
    method: str,
    settings: Mapping[str, Any],
    *,
    precision: str = "float32",
    report: Callable[..., None] | None = None,
) -> DiscriminantRecipe | TrainingRecipe:
    """The recipe of a method with some settings, checked.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    settings : mapping
        Fields of :class:`~padim_zoo.finetune.discriminants.DiscriminantRecipe` or
        :class:`~padim_zoo.finetune.training.TrainingRecipe`.
    precision : str
        Type that networks are trained in.
    report : callable, optional
        Told the epoch of a training, of how many, its held-out loss and accuracy.

    Raises
    ------
    InputError
        If there is no such method, it has no such setting, or a value makes no sense.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: {suggest(method, METHODS)}")
    kind = DiscriminantRecipe if method == DISCRIMINANTS else TrainingRecipe
    names = {field.name for field in fields(kind)}
    unknown = [f"--{name.replace('_', '-')}" for name in settings if name not in names]
    if unknown:
        raise InputError(f"the method {method} has no {', '.join(unknown)}: leave it out, or choose another --method")
    values: dict[str, Any]
    values = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    if kind is TrainingRecipe:
        values |= {"precision": precision, "report": report}
    recipe = kind(**values)
    recipe.check()
    return recipe


def adapt(backbone: Backbone, images: Tensor, recipe: DiscriminantRecipe | TrainingRecipe) -> Adaptation:
    """Adapt a backbone to normal images (n, 3, H, W), uint8: :func:`fit_discriminants` or :func:`train`."""
    if isinstance(recipe, DiscriminantRecipe):
        return fit_discriminants(backbone, images, recipe)
    return train(backbone, images, recipe)


def rebuilt(spec: str, backbone: Backbone, adaptation: Adaptation) -> Backbone:
    """The adapted backbone, made by its factory as ``--weights`` will make it.

    Parameters
    ----------
    spec : str
        Its name in the registry, perhaps with arguments.
    backbone : Backbone
        What was adapted.
    adaptation : Adaptation

    Raises
    ------
    InputError
        If the factory, a plugin's say, ignores tensors that it does not know.
    """
    made = backbones.create(spec, layers=backbone.layers, weights=adaptation.state)
    if made.weights_hash != hash_of(adaptation.state):
        raise InputError(
            f"the backbone {backbone.name} does not take the adapted weights: its factory has to read weights with "
            "padim_zoo.plugin.install, and hand all that it returns to Backbone"
        )
    return made.to(backbone.device)
