"""From a suite and a run to its backbone and its detector.

A backbone is made once for all runs that want it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import resolve_device, resolve_precision
from padim_zoo.backbones.placement import placed
from padim_zoo.backbones.stages import default_layers
from padim_zoo.bench.readers import split
from padim_zoo.bench.run import Run
from padim_zoo.bench.settings import settings_of
from padim_zoo.bench.specs import check_leaves_settings, value_for
from padim_zoo.bench.suite import Suite
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.config import PaDiMConfig
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.ensemble import Ensemble
from padim_zoo.runtimes.runtime import RUNTIMES, TORCH, resolve_runtime


def create_backbone(run: Run) -> Backbone | None:
    """The backbone of a run, or None if its detector takes none."""
    config = run.config
    if config.backbone is None:
        return None
    return registry.backbones.create(config.backbone, layers=config.layers, weights=run.weights)


def create_detector(suite: Suite, run: Run, *backbones: Backbone | None) -> Detector:
    """The unfitted detector of a run, on the backbone of each of its parts."""
    config = run.config
    if config.ensemble is not None:
        members = [create_detector(suite, *part) for part in zip(run.members, backbones, strict=True)]
        return Ensemble(members, rule=config.ensemble)
    (backbone,) = backbones
    values = {
        row.one: getattr(config, row.one) if row.recorded else getattr(suite, row.name)
        for row in settings_of("bench")
        if row.parameter and row.form != "by backbone"
    }
    values |= {"backbone": backbone, "roi": suite.roi, "memory": memory_of_worker(suite)}
    values["runtime"] = runtime_of(suite)
    # Where an optional setting is None, the spec may have set it.
    unset = {row.one for row in settings_of("bench") if row.optional and values.get(row.one) is None}
    names = detector_parameters(config.detector) - unset
    return registry.detectors.create(
        config.detector, **{name: value for name, value in values.items() if name in names}
    )


def runtime_of(suite: Suite) -> str:
    """What runs the backbones of a benchmark: torch unless another is asked for, lest figures depend on a stopwatch."""
    return resolve_runtime(suite.runtime, TORCH)


def memory_of_worker(suite: Suite) -> int | None:
    """Bytes that each worker process may take; None for half of what is free."""
    memory: int | None = suite.memory
    return None if memory is None else memory // suite.jobs


def check_detector(suite: Suite, detector: str) -> None:
    """Refuse a detector whose spec sets what the suite sets, or that cannot do what the suite asks for."""
    rows = [row for row in settings_of("bench") if row.parameter]
    asked = [row for row in rows if row.optional and getattr(suite, row.name) is not None]
    decided = {row.one: row.option_in("bench") for row in rows if not row.optional or row in asked}
    check_leaves_settings(detector, decided)
    names = detector_parameters(detector)
    if {"device", "precision"} & names:
        resolve_precision(suite.precision, resolve_device(suite.device))  # refuses what is none
    runtime = RUNTIMES.get(runtime_of(suite))
    if "runtime" in names and runtime is not None and suite.cluster is None and not runtime.is_installed:
        runtime.version()  # refuses what is not there, once and not for every run
    for row in asked:
        if row.one not in names:
            option = row.option_in("bench")
            raise InputError(f"the detector {detector} takes no {row.one}: leave it out, or leave out {option}")


def check_parameters(detector: Detector) -> None:
    """Refuse what only the detector can refuse; no backbone is copied or run."""
    if hasattr(detector, "check_parameters"):
        detector.check_parameters()


def layers_for(suite: Suite, backbone: str, detector: str) -> tuple[str, ...] | None:
    """The layers that are asked for, else those that a detector wants of a backbone; None for its default ones."""
    asked = value_for(backbone, suite.layers)
    if asked:
        return tuple(split(asked))
    factory: Any = registry.detectors.entry_of(detector).factory
    wanted: tuple[str, ...] | None = factory.layers_wanted(backbone) if hasattr(factory, "layers_wanted") else None
    return None if wanted == default_layers(backbone) else wanted


def weights_for(suite: Suite, backbone: str) -> str:
    """The weights that a suite asks for of a backbone."""
    return value_for(backbone, suite.weights) or PaDiMConfig.weights


def detector_parameters(detector: str) -> set[str]:
    """The names of the parameters of a detector."""
    return set(inspect.signature(registry.detectors.entry_of(detector).factory).parameters)


class BackboneCache:
    """Makes the backbones of runs, and keeps them as long as groups of runs want them.

    They are where and in the precision in which the runs compute, so that no detector makes a copy of its own.

    Parameters
    ----------
    device : str
        As of a suite.
    """

    def __init__(self, device: str = PaDiMConfig.device) -> None:
        self._device = device
        self._backbones: dict[tuple[object, ...], Backbone | None] = {}

    def keep_for(self, runs: Sequence[Run]) -> None:
        """Drop the backbones that a group does not want, before others are made."""
        wanted = {_backbone_key(part) for run in runs for part in run.parts}
        self._backbones = {key: backbone for key, backbone in self._backbones.items() if key in wanted}

    def of(self, run: Run) -> Backbone | None:
        """The backbone of a run, or None if its detector takes none."""
        key = _backbone_key(run)
        if key not in self._backbones:
            backbone = _create_planned(run)
            if isinstance(backbone, Backbone):  # else the detector refuses it, or knows what to do
                backbone = placed(backbone, self._device, run.config.precision)
            self._backbones[key] = backbone
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
    return run.config.backbone, run.config.layers, run.weights, run.config.precision
