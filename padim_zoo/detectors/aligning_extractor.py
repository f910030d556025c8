"""Features of images that are brought to the mean pose of the part first."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.data.augmentation import ViewSet
from padim_zoo.detectors.config import PaDiMConfig
from padim_zoo.detectors.feature_extractor import NativeTypeExtractor
from padim_zoo.features.poses import Mover, framed

NO_ROI = "a detector with register takes no roi: leave out --roi, or fit without register"


class AligningExtractor(NativeTypeExtractor):
    """Moves images to the pose that ``register`` asks for."""

    config: PaDiMConfig

    def moving_by(self, mover: Mover) -> AligningExtractor:
        """One that moves images by something else."""
        moving = copy.copy(self)
        moving.facts = replace(self.facts, registration=mover)
        return moving

    def takes(self, size: tuple[int, int]) -> bool:
        """Whether the network takes images of a height and width: one of them passes through it."""
        try:
            self._maps_to_keep(torch.zeros((1, 3, *size), dtype=torch.uint8), None, None)
        except InputError:
            return False
        return True

    def image_batches(
        self, images: Any, size: int, view_set: ViewSet, roi: Any
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """As of all; refuses a region of interest, which would have to be moved too."""
        if roi is not None and self.config.register is not None:
            raise InputError(NO_ROI)
        return super().image_batches(images, size, view_set, roi)

    def features_key(self, *, fit: bool = True) -> str:
        """As of all, and the motions that are undone."""
        key = super().features_key(fit=fit)
        return key if self.config.register is None else f"{key} register {self.config.register}"

    def cache_key(self, *, fit: bool) -> str | None:
        """Nothing is kept of images that are moved, for that depends on the other images of the fit."""
        return None if self.config.register is not None else super().cache_key(fit=fit)

    @property
    def _largest_size(self) -> tuple[int, int] | None:
        """That of the mean pose, with its margin, once it is known."""
        size, registration = super()._largest_size, self.facts.registration
        return size if size is None or registration is None else framed(size, registration.margin)
