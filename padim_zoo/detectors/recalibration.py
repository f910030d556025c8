"""Another threshold for a saved detector: its file with another calibration, and all else as it was."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.calibration import Calibration
from padim_zoo.detectors.config import MAP_VALUES
from padim_zoo.detectors.loading import detector_in
from padim_zoo.detectors.model_file import add_calibration
from padim_zoo.detectors.p_value_maps import note_on_tail, use_p_values
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
    map_values: str | None = None,
) -> Calibration:
    """Set the threshold of a saved detector from the out-of-fold scores that it holds, or by hand: without a fit.

    Parameters
    ----------
    model : path
    output : path, optional
        The new file, which may be ``model``. Its arrays are those of the model, to the bit. By default none is written.
        A file that exists is replaced only if it is the same model, but for its threshold.
    false_alarm_rate : float, optional
        In (0, 1). By default 0.05, or the least that the number of images allows.
    threshold : float, optional
        Set by hand; it promises no false-alarm rate.
    region_rate, region_area, decide_by
        As of :meth:`~padim_zoo.detectors.calibration.Calibration.with_decision`. With these alone the image threshold
        stays.
    map_values : str, optional
        Of :func:`set_map_values`. Rates stay; a threshold by hand is of the new values.

    Raises
    ------
    InputError
        If both are given, or the model holds no scores, or too few for the rate, or the new file is another model, or
        maps cannot have these values.
    """
    if threshold is not None and false_alarm_rate is not None:
        raise InputError("a threshold and a false-alarm rate exclude each other: give one of them")
    file = open_detector(model)
    if output is not None:
        _refuse_other_model(file, Path(output))
    detector = detector_in(file)
    before = detector.calibration_
    others = (region_rate, decide_by, map_values)
    if false_alarm_rate is not None or (threshold is None and (before is None or others == (None, None, None))):
        detector.recalibrate(false_alarm_rate=false_alarm_rate)
    if map_values is not None:
        set_map_values(detector, model, map_values)
    if threshold is not None:
        detector.threshold_ = threshold
    assert detector.calibration_ is not None
    calibration = detector.calibration_.with_decision(region_rate, region_area, decide_by)
    detector.calibration_ = calibration
    if (note := note_on_tail(detector)) is not None:
        warnings.warn(note, stacklevel=2)
    if output is not None:
        header = {name: value for name, value in file.header.items() if name not in ("format", "arrays")}
        arrays: dict[str, Tensor] = dict(file.tensors)
        if "members" in header:  # an ensemble combines the scores of its members anew
            header["calibration"] = calibration.to_dict()
        else:
            if map_values in MAP_VALUES:
                header["parameters"] = {**header["parameters"], "map_values": map_values}
            add_calibration(calibration, header, arrays)
        write_detector(output, header, arrays, file.provenance)
    return calibration


def set_map_values(detector: Any, model: str | Path, values: str) -> None:
    """Have the maps of a saved detector show scores, or p-values.

    Parameters
    ----------
    detector
        As loaded from ``model``.
    model : path
        For the message.
    values : str
        ``"score"`` or ``"p-value"``.

    Raises
    ------
    InputError
        If maps are p-values already and scores are wanted, or no normal maps are known.
    """
    if values not in MAP_VALUES:
        if getattr(detector, "values_of_maps", None) is not None:
            raise InputError(f"{model} has --map-values {detector.values_of_maps}: fit without it for scores")
        return
    if not isinstance(detector, BackboneDetector):
        raise InputError(f"{model} knows no normal images to make p-values of: take the model of one detector")
    use_p_values(detector)


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
    parameters = {name: value for name, value in file.header["parameters"].items() if name != "map_values"}
    told = {name: told for name, told in file.header.items() if name != "calibration"}
    return told | {"arrays": arrays, "parameters": parameters}
