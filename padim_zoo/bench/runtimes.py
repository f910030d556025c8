"""What a fitted detector costs in other runtimes: exported, checked, and timed as the detector itself is."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from padim_zoo.bench.costs import runtime_column
from padim_zoo.bench.measure import milliseconds_per_image
from padim_zoo.detectors.detector import Detector
from padim_zoo.export.exporting import export
from padim_zoo.export.runtimes import ExportedModel
from padim_zoo.export.suffixes import SUFFIXES

CHECKED_IMAGES = 4
"""Test images that an export is held to its detector on before it is timed."""


def runtime_costs(
    detector: Detector, images: Sequence[np.ndarray | Path], runtimes: Sequence[str]
) -> tuple[dict[str, float], list[str]]:
    """Milliseconds per image at batch 1 of a detector's exports, from decoded images to scores and maps.

    A runtime that cannot have it, because its package is not installed or its exporter does not know what the detector
    does, costs a note and nothing else.

    Parameters
    ----------
    detector : Detector
        Fitted.
    images : sequence of ndarray (H, W, 3), uint8, or Path
    runtimes : sequence of str
        Of :data:`padim_zoo.export.suffixes.RUNTIMES`.

    Returns
    -------
    times : dict
        By column.
    notes : list of str
        Why there is no time of a runtime.
    """
    times: dict[str, float] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime in runtimes:
            path = Path(folder, f"model{SUFFIXES[runtime]}")
            try:
                export(detector, path, runtime, images=images[:CHECKED_IMAGES])
                times[runtime_column(runtime)] = milliseconds_per_image(ExportedModel(path), images, 1)
            except Exception as error:  # whatever a runtime does must not fail the run
                reason = " ".join(str(error).split()) or type(error).__name__
                notes.append(f"no latency in {runtime}: {reason}")
    return times, notes
