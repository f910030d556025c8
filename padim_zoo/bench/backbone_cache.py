"""The backbones of runs, made once for all runs that want them."""

from __future__ import annotations

from collections.abc import Sequence

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.bench.build import create_backbone
from padim_zoo.bench.run import Run
from padim_zoo.core.errors import InputError


class BackboneCache:
    """Makes the backbones of runs, and keeps them as long as groups of runs want them."""

    def __init__(self) -> None:
        self._backbones: dict[tuple[object, ...], Backbone | None] = {}

    def keep_for(self, runs: Sequence[Run]) -> None:
        """Drop the backbones that a group does not want, before others are made."""
        wanted = {_backbone_key(part) for run in runs for part in run.parts}
        self._backbones = {key: backbone for key, backbone in self._backbones.items() if key in wanted}

    def of(self, run: Run) -> Backbone | None:
        """The backbone of a run, or None if its detector takes none."""
        key = _backbone_key(run)
        if key not in self._backbones:
            self._backbones[key] = _create_planned(run)
        return self._backbones[key]


def _create_planned(run: Run) -> Backbone | None:
    """The backbone of a run, with the weights that were planned.

    Raises
    ------
    InputError
        If they have changed since, or another machine has others.
    """
    backbone = create_backbone(run)
    planned = run.config.weights_hash
    if backbone is not None and planned is not None and backbone.weights_hash != planned:
        raise InputError(
            f"the weights {run.weights} of {run.config.backbone} have the hash {backbone.weights_hash} here, and "
            f"{planned} where the runs were planned: expected the same weights"
        )
    return backbone


def _backbone_key(run: Run) -> tuple[object, ...]:
    return run.config.backbone, run.config.layers, run.weights
