"""How images of each size are cut into blocks: decided once, however much memory is free meanwhile."""

from __future__ import annotations

import math

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.detectors.config import BackboneConfig
from padim_zoo.features.rolling import RollingBands
from padim_zoo.features.streaming import Blocks, images_within, plan_blocks
from padim_zoo.statistics.accumulator import default_budget


def budget_of(config: BackboneConfig) -> int:
    """Bytes that a fit may take beside the backbone."""
    return default_budget() if config.memory is None else config.memory


def batch_within(config: BackboneConfig, backbone: Backbone, image_size: tuple[int, int]) -> int:
    """How many images of a size are in work at once."""
    if config.batch_size == 1:  # to ask how much memory is free takes half a millisecond
        return 1
    return images_within(backbone, image_size, config.batch_size, budget_of(config))


class BlockPlans:
    """All images of one size are cut in the same way."""

    def __init__(self) -> None:
        self._plans: dict[tuple[tuple[int, int], str | int, int | None], RollingBands | Blocks | None] = {}

    def plan(
        self, config: BackboneConfig, backbone: Backbone, image_size: tuple[int, int]
    ) -> RollingBands | Blocks | None:
        """How images of a size are cut; None where they pass through the backbone whole.

        Raises
        ------
        InputError
            If they have to be cut, and the network looks at all of an image at once.
        """
        key = (image_size, config.stream, config.memory)
        if key not in self._plans:
            limit = math.inf if config.memory is None else config.memory
            self._plans[key] = plan_blocks(backbone, image_size, config.stream, budget_of(config), limit)
        return self._plans[key]

    @property
    def latest(self) -> RollingBands | Blocks | None:
        """How images of the latest size were cut."""
        return next(reversed(self._plans.values()), None)
