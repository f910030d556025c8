"""A detector scores the same after it was saved and loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.padim import PaDiM


def same_after_loading(detector: PaDiM, images: np.ndarray, what: str, *, rtol: float, atol: float) -> Iterator[str]:
    """A line if a fitted detector cannot be saved and loaded, or scores images otherwise afterwards.

    Parameters
    ----------
    detector : PaDiM
        Fitted.
    images : ndarray (N, H, W, 3), uint8
    what : str
        What the detector is, in words: ``"a PaDiM on it"``.
    rtol, atol : float
        Largest differences of scores, relative and absolute.
    """
    expected = detector.predict(images).scores
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        try:
            detector.save(path)
            again = load(path).predict(images).scores
        except InputError as error:
            yield f"{what} cannot be saved and loaded: {error}"
            return
    if not np.allclose(again, expected, rtol=rtol, atol=atol):
        yield f"{what} scores {again} after it was saved and loaded, and {expected} before"
