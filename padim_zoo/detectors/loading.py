"""A detector from the file that it was saved to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.config import BackboneConfig
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.ensemble import Ensemble
from padim_zoo.detectors.storage import DetectorFile, open_detector

_AMISS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
    *(RuntimeError, TypeError, ValueError),
)
"""What a header that parses, but makes no sense, may end in."""


def load(
    path: str | Path, *, device: str = BackboneConfig.device, batch_size: int = BackboneConfig.batch_size
) -> Detector:
    """Load a detector that was saved with :meth:`Detector.save`.

    Files up to 256 MB are read, and compared with the hashes in their headers. Larger ones are memory-mapped, which a
    warning says, and compared by header and structure only; :func:`verify` reads them whole.

    Parameters
    ----------
    path : str or Path
        The file.
    device, batch_size
        As the detector's constructor takes them.

    Raises
    ------
    InputError
        If the file is not a model, or damaged, or its detector or backbone is not registered here (load its plugin
        first).
    """
    return detector_in(open_detector(path), device=device, batch_size=batch_size)


def detector_in(
    file: DetectorFile, *, device: str = BackboneConfig.device, batch_size: int = BackboneConfig.batch_size
) -> Detector:
    """The detector that an opened file, or one in memory, holds.

    Raises
    ------
    InputError
        As :func:`load` does.
    """
    kind = file.header["detector"]
    # An ensemble is made of fitted detectors, so none can be created by name.
    factory: Any = Ensemble if kind == Ensemble.name else registry.detectors.entry(kind).factory
    try:
        detector: Detector = factory.from_file(file, device=device, batch_size=batch_size)
    except InputError:
        raise
    except _AMISS as error:
        # Whatever is amiss in a header that parses: a key that is not there, a parameter that the class does not have.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"the header of {file.path} makes no {kind} ({reason}): it was edited, or written by another version of "
            "padim-zoo; fit it again"
        ) from error
    return detector


def verify(path: str | Path) -> None:
    """Compare every array of a saved detector with the hash that was saved with it, whatever the size of the file.

    Raises
    ------
    InputError
        If the file is not a model, or damaged.
    """
    open_detector(path).verify()
