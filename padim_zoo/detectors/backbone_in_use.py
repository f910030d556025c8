"""The backbone of a detector: made once for all copies of its extractor, and run by the runtime that is asked for."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import torch

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.conversion import decide_runtime, in_runtime
from padim_zoo.backbones.placement import placed
from padim_zoo.core.errors import MissingExtraError
from padim_zoo.core.moving import moved
from padim_zoo.detectors.config import BackboneConfig
from padim_zoo.runtimes.runtime import AUTO, TORCH, resolve_runtime

Model = TypeVar("Model")


class BackboneInUse:
    """What a feature extractor and its copies have in common.

    Attributes
    ----------
    backbone : Backbone or None
        None until it is made.
    adapted_to : frozenset of str or None
        The hashes of the images that the weights were adapted to, so far as these or a model file say it; None until
        that was looked at.
    """

    def __init__(self) -> None:
        self.backbone: Backbone | None = None
        self.adapted_to: frozenset[str] | None = None
        self._decided_for, self._decided_alone = 0, False
        self._model: tuple[weakref.ref[Any], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": None}

    def on_device(self, model: Model) -> Model:
        """The copy of a model on the device of the backbone, made once; the model itself if it cannot be there."""
        if not getattr(model, "movable", False):
            return model
        kept = self._model  # other threads may replace it
        if kept is None or kept[0]() is not model:
            self._model = None  # makes room
            copied = model
            assert self.backbone is not None
            with suppress(torch.cuda.OutOfMemoryError):
                copied = moved(model, self.backbone.device)
            self.keep(model, copied)
            return copied
        return model if kept[1] is None else kept[1]

    def keep(self, model: Model, on_device: Model) -> None:
        """Take note of the copy of a model on the device of the backbone, for as long as there is the model."""

        def forget(reference: weakref.ref[Any]) -> None:
            if self._model is not None and self._model[0] is reference:
                self._model = None

        self._model = weakref.ref(model, forget), None if on_device is model else on_device

    def make(self, config: BackboneConfig, layers: Sequence[str] | None) -> Backbone:
        """Make the backbone that the parameters name, or take the one that they hold.

        Raises
        ------
        InputError
            If the name is unknown or makes no Backbone, the weights do not fit or cannot be had, or the device is not
            there or the precision unknown.
        """
        made: Any = config.backbone
        if isinstance(made, str):
            made = registry.backbones.create(made, layers=layers, weights=config.weights)
        return self.use(made, config)

    def use(self, backbone: Any, config: BackboneConfig, fitted_in: str | None = None) -> Backbone:
        """Take a backbone that a factory made; ``fitted_in`` is as of :func:`~padim_zoo.backbones.placement.placed`."""
        self.backbone, self._model = placed(backbone, config.device, config.precision, fitted_in), None
        self.change_runtime(config)
        return self.backbone

    def change_runtime(self, config: BackboneConfig) -> None:
        """Have the runtime that the parameters ask for run the backbone, once it is made.

        Raises
        ------
        InputError
            If there is no such runtime, or it is not installed.
        """
        asked = resolve_runtime(config.runtime)
        self._decided_for = 0
        if self.backbone is None or (config.runtime is None and self.backbone.converted is not None):
            return
        self.backbone = in_runtime(self.backbone, TORCH if asked == AUTO else asked)

    def decide_runtime(self, images: int, image_size: tuple[int, int] | None, *, alone: bool, anew: bool) -> None:
        """Decide which runtime is the fastest for so many images of a size, unless as many decided it.

        Parameters
        ----------
        images : int
        image_size : (int, int) or None
            Height and width after the transform; None, which decides nothing, where they are not known.
        alone : bool
            Whether they pass through the network one by one.
        anew : bool
            Whether it is decided anew where images came otherwise. Else that stays: an image is to have the same score
            alone and among others.
        """
        backbone = self.backbone
        assert backbone is not None
        if anew and alone != self._decided_alone:
            self._decided_for = 0
            if backbone.choice is not None:
                backbone = self.backbone = backbone.run_by(None)
        if images <= self._decided_for or image_size is None or backbone.converted is not None:
            return
        self._decided_for, self._decided_alone = images, alone
        choice = decide_runtime(backbone, images, image_size, alone=alone)
        if choice is None:
            return
        with suppress(MissingExtraError):  # a package that is there, and broken
            # A backbone of its own: that of a user, or of another detector, stays as it is.
            self.backbone = backbone.run_by(in_runtime(backbone, choice.fastest).converted)
            self.backbone.choice = choice
