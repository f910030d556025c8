"""Exports a fitted detector to one file, and holds what the file finds to what the detector finds."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

import padim_zoo
from padim_zoo.backbones.backbone import hash_of
from padim_zoo.backbones.device import resolve_precision
from padim_zoo.core.atomic_write import check_writable, draft_folder, flush
from padim_zoo.core.errors import InputError, WriteError
from padim_zoo.core.progress import told
from padim_zoo.data.synthetic import CATEGORIES, KINDS
from padim_zoo.data.synthetic.scene import Picture, take
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.config import DECIDES
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.scoring import of_size
from padim_zoo.export.metadata import FORMAT, to_text
from padim_zoo.export.networks import exportable, in_float32
from padim_zoo.export.runtimes import ExportedModel
from padim_zoo.export.suffixes import SUFFIXES
from padim_zoo.export.writers import write

LIMITS = {"float32": 1e-3, "bfloat16": 5e-2}
"""Largest relative difference of scores and maps from the detector's, by the precision of the backbone. Two runtimes
round bfloat16 at different places, and each is a percent from float32."""

CHECKED_AT_ONCE = 4


@dataclass(frozen=True)
class Difference:
    """How far what a file finds is from what its detector finds, at most.

    Attributes
    ----------
    images : int
        How many were compared.
    scores : float
        Relative to the detector's score.
    maps : float or None
        Relative to the largest value of the image's map.
    decisions : int
        Images that one calls anomalous and the other does not.
    """

    images: int
    scores: float
    maps: float | None
    decisions: int


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    files : tuple of Path
    size : int
        Bytes of all files.
    difference : Difference
        From the detector, in the precision of the file.
    note : str or None
        What a reader should know of that precision.
    """

    files: tuple[Path, ...]
    size: int
    difference: Difference
    note: str | None = None


def export(
    detector: Detector,
    path: str | Path,
    form: str,
    *,
    precision: str | None = None,
    input_size: tuple[int, int] | None = None,
    images: Sequence[Path | np.ndarray] | None = None,
) -> Exported:
    """Write a fitted detector as one network, run it, and keep it if it finds what the detector finds.

    Parameters
    ----------
    detector : Detector
        Fitted.
    path : str or Path
        Replaced whole or not at all; of ``"openvino"`` also the ``.bin`` beside it.
    form : str
        ``"onnx"``, ``"openvino"`` or ``"torch"``.
    precision : str, optional
        Of the backbone; by default the detector's own. ONNX Runtime has float32 only.
    input_size : tuple of int, optional
        Height and width of images as they come, which the network then resizes and crops; by default it takes images
        after the transform.
    images : sequence of Path or ndarray (H, W, 3), uint8, optional
        What the file is tried on; by default some synthetic images.

    Raises
    ------
    InputError
        If the detector or its backbone cannot be exported, what the format needs is not installed, or scores or maps
        differ by more than :data:`LIMITS`. No file is left then.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file: expected a new name, or a file to replace")
    if form not in SUFFIXES:
        raise InputError(f"unknown format {form!r}: expected {', '.join(SUFFIXES)}")
    if path.suffix.lower() != SUFFIXES[form]:
        raise InputError(f"{path} does not end in {SUFFIXES[form]}, by which the format {form} is known: name it so")
    if detector.calibration_ is not None and detector.calibration_.decides != DECIDES[0]:
        raise InputError(
            f"the model decides by {detector.calibration_.decides}, and a network by image: run padim-zoo calibrate "
            "--decide-by image first, or give --threshold"
        )
    computes_in = precision_of_file(detector, form, precision)
    network = exportable(_for_images_of(detector, input_size), precision=computes_in, size=input_size)
    assert isinstance(detector, BackboneDetector)
    size = input_size or detector.image_size_
    document = describe(detector, hash_of(network.state_dict()), computes_in, size, input_size is not None)
    metadata = to_text(document)
    with ExitStack() as stack:
        with _told_of_the_disk(path):
            folder = stack.enter_context(draft_folder(path))
            write(form, network, size, metadata, folder / path.name)
        del network
        exported = ExportedModel(folder / path.name, form)
        exported.path = path  # in what it says
        to_try = list(images) if images is not None else synthetic_images(detector, input_size)
        reference, backbone = detector, detector.build_backbone()
        if computes_in == "float32" != backbone.precision:
            reference = detector.with_backbone(in_float32(backbone))
        difference = compare(exported, reference, to_try)
        if max(difference.scores, difference.maps or 0.0) > LIMITS[computes_in]:
            raise InputError(
                f"{path} was not written: on {difference.images} images its scores differ by up to "
                f"{difference.scores:.1e} and its maps by up to {difference.maps or 0:.1e} of the detector's, and "
                f"{LIMITS[computes_in]:g} is allowed; try another format, or --precision float32"
            )
        moved = None if reference is detector else compare(exported, detector, to_try).scores
        del exported
        written = sorted(folder.iterdir(), key=lambda file: file.suffix != ".bin")  # the file that names it comes last
        with _told_of_the_disk(path):
            _put_in_place(written, path.parent)
        files = tuple(path.parent / file.name for file in reversed(written))
        note = _note_on_precision(detector, computes_in, moved)
        return Exported(files, sum(file.stat().st_size for file in files), difference, note)


def _for_images_of(detector: Detector, input_size: tuple[int, int] | None) -> Detector:
    """The detector that scores images of a size: a copy where it takes several.

    Raises
    ------
    InputError
        If it takes one, and that is another.
    """
    if input_size is None or not isinstance(detector, BackboneDetector):
        return detector
    sides: Any = input_size
    if not isinstance(sides, (tuple, list)) or len(sides) != 2 or not all(map(_is_length, sides)):
        raise InputError(f"input_size is {sides!r}: expected height and width in pixels, e.g. (480, 640)")
    height, width = detector.transform.output_size(*input_size)
    if (height, width) == detector.image_size_:
        return detector
    if detector.takes_sizes:
        return of_size(detector, (height, width))
    raise InputError(
        f"images of {input_size[0]}x{input_size[1]} pixels are {height}x{width} after the transform, but the model "
        f"was fitted on {detector.image_size_[0]}x{detector.image_size_[1]}: give another input size"
    )


def _is_length(side: Any) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and side > 0


def _put_in_place(files: Sequence[Path], folder: Path) -> None:
    """Rename files into a folder; where that ends midway, those that were there before are there again."""
    for file in files:
        flush(file)
    kept: dict[Path, Path | None] = {}
    if len(files) > 1:  # one file needs no way back
        for file in files:
            kept[folder / file.name] = _keep(folder / file.name, file.with_name(f"old-{file.name}"))
    try:
        for file in files:
            os.replace(file, folder / file.name)
    except BaseException:
        for target, old in kept.items():
            target.unlink(missing_ok=True) if old is None else os.replace(old, target)
        raise
    if os.name == "posix":
        flush(folder)


def _keep(path: Path, old: Path) -> Path | None:
    """Keep a file under another name too; None if there is no such file."""
    if not path.exists():
        return None
    try:
        os.link(path, old)
    except OSError:  # of a disk that has no links
        shutil.copyfile(path, old)
    return old


@contextmanager
def _told_of_the_disk(path: Path) -> Iterator[None]:
    """Within it an error that comes of the disk says so: exporters wrap it, or have it in their text alone."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError):
                raise WriteError(path, cause.strerror or str(cause), cause.errno) from None
            if "iostream error" in str(cause):  # OpenVINO does not say which
                raise WriteError(path, os.strerror(errno.EIO), errno.EIO) from None
            for number in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT):
                if os.strerror(number) in str(cause):
                    raise WriteError(path, os.strerror(number), number) from None
            cause = cause.__cause__ or cause.__context__
        check_writable(path.parent)
        raise


def precision_of_file(detector: Detector, form: str, precision: str | None) -> str:
    """The precision of the backbone in a file.

    Raises
    ------
    InputError
        If there is no such precision, or the format does not know it.
    """
    precision = None if precision is None else resolve_precision(precision, torch.device("cpu"))
    if form == "onnx":
        if precision not in (None, "float32"):
            raise InputError(f"ONNX Runtime computes in float32 on a CPU, not in {precision}: choose openvino or torch")
        return "float32"
    if precision is not None or not isinstance(detector, BackboneDetector):
        return precision or "float32"
    return detector.build_backbone().precision


def describe(
    detector: BackboneDetector[Any], network_hash: str, precision: str, input_size: tuple[int, int], resizes: bool
) -> dict[str, Any]:
    """The metadata of a file: what it is, and all that it takes to use it."""
    calibration, backbone = detector.calibration_, detector.build_backbone()
    return {
        "format": FORMAT,
        "version": padim_zoo.__version__,
        "detector": detector.name,
        "backbone": backbone.name,
        "weights_hash": backbone.weights_hash,
        "network_hash": network_hash,
        "precision": precision,
        "n_images": detector.n_images_,
        "input": "uint8, RGB, (N, height, width, 3)",
        "input_size": input_size,
        "includes_transform": resizes,
        "transform": detector.transform.to_dict(),
        "threshold": detector.threshold_,
        "false_alarm_rate": None if calibration is None else calibration.false_alarm_rate,
        "makes_maps": detector.makes_maps,
        "score_is_map_maximum": detector.threshold_serves_maps,
        "region_threshold": None if calibration is None else calibration.region_threshold,
        "region_rate": None if calibration is None else calibration.region_rate,
        "region_area": 1 if calibration is None else calibration.region_area,
        "map_scale": [None, None] if calibration is None else [calibration.map_low, calibration.map_high],
    }


def compare(exported: ExportedModel, detector: Detector, images: Sequence[Path | np.ndarray]) -> Difference:
    """Score the same images by a file and by its detector.

    Raises
    ------
    InputError
        If an image cannot be read, or there is none.
    """
    if not images:
        raise InputError("there are no images to test the file on: expected at least one")
    scores, maps, decisions = 0.0, 0.0, 0
    starts = range(0, len(images), CHECKED_AT_ONCE)
    for start in told(starts, "trying the file", len(starts), "batches"):
        batch = list(images[start : start + CHECKED_AT_ONCE])
        scored, expected = exported.predict(batch), detector.predict(batch)
        scores = max(scores, float(_relative(scored.scores, expected.scores).max()))
        if scored.maps is not None and expected.maps is not None:
            height, width = scored.maps.shape[1:]
            maps_expected = expected.maps[:, :height, :width]  # they may lie on a canvas
            largest = np.abs(maps_expected).max((1, 2))
            difference = np.abs(scored.maps - maps_expected).max((1, 2))
            maps = max(maps, float(_relative(difference + largest, largest).max()))
        if expected.anomalous is not None:
            decisions += int(((scored.scores > expected.threshold) != expected.anomalous).sum())
    return Difference(len(images), scores, maps if exported.makes_maps else None, decisions)


def _relative(values: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|values - expected| / |expected|; not a number is as far as can be."""
    scale = np.maximum(np.abs(expected), np.finfo(np.float32).tiny)
    distance: np.ndarray = np.abs(values.astype(np.float64) - expected) / scale
    return np.where(np.isnan(distance), np.inf, distance)


def _note_on_precision(detector: BackboneDetector[Any], precision: str, moved: float | None) -> str | None:
    """One line where the file does not compute as the detector was fitted, or is slow elsewhere.

    ``moved`` is the relative difference of its scores from the detector's, where that computes in another precision.
    """
    if precision == "bfloat16":
        return "the file computes in bfloat16: for processors that are slow at that, export with --precision float32"
    fitted_in = detector.precision_
    if fitted_in == precision:
        return None
    by = "up to about 3 %" if moved is None else f"up to {100 * moved:.2g} % on these images"
    return (
        f"the model was fitted, and its threshold made, in {fitted_in}; the file computes in {precision}, and "
        f"scores differ by {by}; those of a model of fit --precision {precision} do not"
    )


def synthetic_images(detector: BackboneDetector[Any], input_size: tuple[int, int] | None) -> list[np.ndarray]:
    """One drawn image of each kind, of a size that the detector takes: that of the fit, or twice as large."""
    height, width = input_size or detector.image_size_
    if input_size is None and detector.transform.output_size(2 * height, 2 * width) == detector.image_size_:
        height, width = 2 * height, 2 * width
    kinds = ["good", *KINDS]
    pictures = [Picture(category, "test", kind, 0) for category, kind in zip(cycle(CATEGORIES), kinds, strict=False)]
    return [take(picture, max(height, width), 0).image[:height, :width] for picture in pictures]
