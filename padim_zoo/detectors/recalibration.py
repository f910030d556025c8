"""Another threshold for a saved detector: its file with another calibration, and all else as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.loading import detector_in
from padim_zoo.detectors.model_file import add_calibration
from padim_zoo.detectors.storage import DetectorFile, open_detector, write_detector


def calibrate_file(
    model: str | Path,
    output: str | Path | None = None,
    *,
    false_alarm_rate: float | None = None,
    threshold: float | None = None,
    region_rate: float | None = None,
    region_area: int | None = None,
    decide_by: str | None = None,
) -> Calibration:
    """Set the threshold of a saved detector from the out-of-fold scores that it holds, or by hand: without a fit.

    Parameters
    ----------
    model : path
    output : path, optional
        The new file, which may be ``model``. Its arrays are those of the model, to the bit. By default none is written.
        A file that exists is replaced only if it is the same model, but for its threshold.
    false_alarm_rate : float, optional
        In (0, 1). By default 0.01, or the least that the number of images allows.
    threshold : float, optional
        Set by hand; it promises no false-alarm rate.
    region_rate, region_area, decide_by
        As of :meth:`~padim_zoo.detectors.calibration.Calibration.with_decision`. With these alone the image threshold
        stays.

    Raises
    ------
    InputError
        If both are given, or the model holds no scores, or too few for the rate, or the new file is another model.
    """
    if threshold is not None and false_alarm_rate is not None:
        raise InputError("a threshold and a false-alarm rate exclude each other: give one of them")
    file = open_detector(model)
    if output is not None:
        _refuse_other_model(file, Path(output))
    detector = detector_in(file)
    before = detector.calibration_
    if threshold is not None:
        detector.threshold_ = threshold
    elif false_alarm_rate is not None or before is None or (region_rate is None and decide_by is None):
        detector.recalibrate(false_alarm_rate=false_alarm_rate)
    assert detector.calibration_ is not None
    calibration = detector.calibration_.with_decision(region_rate, region_area, decide_by)
    if output is not None:
        header = {name: value for name, value in file.header.items() if name not in ("format", "arrays")}
        arrays: dict[str, Tensor] = dict(file.tensors)
        if "members" in header:  # an ensemble combines the scores of its members anew
            header["calibration"] = calibration.to_dict()
        else:
            add_calibration(calibration, header, arrays)
        write_detector(output, header, arrays, file.provenance)
    return calibration


def _refuse_other_model(file: DetectorFile, output: Path) -> None:
    """Refuse to replace a file that is not this model with the same or another threshold.

    Raises
    ------
    InputError
        If it is not.
    """
    if not output.exists():
        return
    try:
        same = _without_calibration(open_detector(output)) == _without_calibration(file)
    except InputError:
        same = False
    if not same:
        raise InputError(f"{output} exists, and is not {file.path} with another threshold: name another file")


def _without_calibration(file: DetectorFile) -> dict[str, Any]:
    """What a file says of its model, with the hashes of the arrays."""
    arrays = {name: told for name, told in file.header["arrays"].items() if not name.startswith("calibration.")}
    return {name: told for name, told in file.header.items() if name != "calibration"} | {"arrays": arrays}
