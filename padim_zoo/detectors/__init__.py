"""Detectors: images to anomaly scores and maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from padim_zoo import registry
from padim_zoo.detectors.detector import Detector as Detector
from padim_zoo.detectors.detector import Prediction as Prediction
from padim_zoo.detectors.padim import PaDiM as PaDiM
from padim_zoo.detectors.storage import open_detector
from padim_zoo.errors import InputError


def load(path: str | Path, **options: Any) -> Detector:
    """Load a detector that was saved with :meth:`Detector.save`.

    Parameters
    ----------
    path : str or Path
        The file.
    **options
        ``device`` and ``batch_size``, as the detector's constructor takes them.

    Raises
    ------
    InputError
        If the file is not a model, or its detector or backbone is not registered here (load its plugin first).
    """
    file = open_detector(path)
    try:
        factory: Any = registry.detectors.entry(file.header["detector"]).factory
        detector: Detector = factory.from_file(file, **options)
    except KeyError as error:
        raise InputError(
            f"{path} lacks {error}: it was written by another version of padim-zoo; fit it again"
        ) from None
    return detector
