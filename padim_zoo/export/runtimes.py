"""Runs exported files: ONNX Runtime and OpenVINO without torch, or torch itself. None needs what wrote them."""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from padim_zoo.core.environment_variables import environment_set
from padim_zoo.core.errors import InputError, MissingExtraError
from padim_zoo.core.file_type import file_type
from padim_zoo.data.file_notes import collecting
from padim_zoo.data.image import read_image, to_image
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.config import DECIDES
from padim_zoo.detectors.regions import RegionRule
from padim_zoo.export.metadata import KEY, Metadata, is_sealed, records_of
from padim_zoo.export.suffixes import SUFFIXES
from padim_zoo.pictures.colormap import Scale, scale_of_maps
from padim_zoo.runtimes.onnx_runtime import cpu_session
from padim_zoo.runtimes.openvino_runtime import compile_on_cpu

THREADS = 8
"""Images that are decoded at once, at most."""


class Scored(NamedTuple):
    """What an exported detector says of N images; the names are those of a detector's prediction."""

    scores: np.ndarray
    maps: np.ndarray | None

    @property
    def deciding_scores(self) -> np.ndarray:
        """The scores: only models that decide by them are exported."""
        return self.scores

    @property
    def pictured(self) -> np.ndarray | None:
        """The maps as pictures show them: there is no region of interest."""
        return self.maps


class Session(NamedTuple):
    """An exported file in the runtime of its format.

    Attributes
    ----------
    run : callable
        uint8 images (N, H, W, 3) to outputs by name.
    text : str or None
        The metadata that the file holds.
    sealed : bool
        Whether the digest in the metadata is that of the file.
    """

    run: Callable[[np.ndarray], dict[str, np.ndarray]]
    text: str | None
    sealed: bool


def open_onnx(path: Path) -> Session:
    """ONNX Runtime, on the CPU; numbers in other files are refused."""
    content = path.read_bytes()
    try:
        session = cpu_session(content, "running an ONNX file")
    except MissingExtraError:
        raise
    except Exception as error:  # its errors share no class of their own
        raise _refusal(path, "an ONNX", error) from None
    names, input_name = [output.name for output in session.get_outputs()], session.get_inputs()[0].name

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {input_name: images}), strict=True))

    return Session(run, session.get_modelmeta().custom_metadata_map.get(KEY), is_sealed(content))


def open_openvino(path: Path) -> Session:
    """OpenVINO Runtime, on the CPU.

    The types of the file are kept: Mahalanobis distances do not bear bfloat16. What is to be in it is so in the file.
    """
    numbers = path.with_suffix(".bin")
    content = path.read_bytes()
    try:  # of other files OpenVINO would try to guess the format, with remarks
        network = ElementTree.fromstring(content).tag == "net"
    except ElementTree.ParseError as error:
        raise _refusal(path, "an OpenVINO", error) from None
    if not network:
        raise InputError(f"{path} is XML of something else: expected an OpenVINO file that padim-zoo export wrote")
    if not numbers.is_file():
        raise InputError(f"{path} is half of an OpenVINO file, and {numbers.name} is not beside it: copy both")
    weights = numbers.read_bytes()
    try:
        model, compiled = compile_on_cpu((content, weights), "running an OpenVINO file", "float32")
    except RuntimeError as error:
        raise _refusal(path, "an OpenVINO", f"{error} Is {numbers.name} its own?") from None
    request, names = compiled.create_infer_request(), [output.any_name for output in compiled.outputs]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, request.infer({0: images}, share_inputs=True).to_tuple(), strict=True))

    text = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
    return Session(run, text, is_sealed(content, [weights]))


def open_torch(path: Path) -> Session:
    """``torch.export``, on the CPU.

    An archive can hold pickles, compiled code and expressions, all of which torch would run: see
    :mod:`padim_zoo.export.torch_archive` for what is accepted.
    """
    import torch

    from padim_zoo.export.torch_archive import checked_archive

    extra = {KEY: ""}
    logging.getLogger("torch.export").setLevel(logging.ERROR)  # it would log tracebacks of what is told below
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as source:
            archive = checked_archive(source)
        with zipfile.ZipFile(archive) as checked:
            sealed = is_sealed(*records_of(checked))
        archive.seek(0)
        with environment_set({"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}):  # no pickles
            module = torch.export.load(archive, extra_files=extra).module()
    except Exception as error:  # whatever an archive that is none makes torch raise
        pickled = "Weights only load failed" in str(error)
        raise _refusal(path, "a torch.export", "it holds a pickle" if pickled else error) from None

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {name: tensor.numpy() for name, tensor in module(torch.from_numpy(images)).items()}

    return Session(run, extra[KEY] or None, sealed)


OPENERS: Mapping[str, Callable[[Path], Session]] = {"onnx": open_onnx, "openvino": open_openvino, "torch": open_torch}
"""The runtimes by their names, which are those of the formats."""


_FROM_THE_RUNTIME = re.compile(
    r"Exception from \S+:|Check '.*?' failed at \S+:|\[ONNXRuntimeError\][^:]*:[^:]*:[^:]*:|Load model from .* failed:"
)
"""Where in the runtime's code an error comes from, which tells a user nothing."""

_KINDS = {"an ONNX": ("an ONNX model", "binary data"), "an OpenVINO": ("XML",), "a torch.export": ("a zip archive",)}
"""What files of each runtime are by their first bytes."""


def _refusal(path: Path, of: str, error: Exception | str) -> InputError:
    """The error for a file that is none ``of`` a runtime, or is broken."""
    kind = file_type(path)
    if kind not in _KINDS[of]:
        return InputError(f"{path} is {kind}: expected {of} file that padim-zoo export wrote")
    reason = " ".join(_FROM_THE_RUNTIME.sub("", str(error)).split()).rstrip(".!") or type(error).__name__
    return InputError(
        f"{path} is {of} file that cannot be run here ({reason[:160]}): if padim-zoo export wrote it, it is cut off or "
        "damaged; export the model again"
    )


class ExportedModel:
    """An exported detector: images to scores and maps.

    Parameters
    ----------
    path : str or Path
        What ``padim-zoo export`` wrote.
    runtime : str, optional
        ``"onnx"``, ``"openvino"`` or ``"torch"``; by default the one of the file's suffix.

    Raises
    ------
    InputError
        If the file is none of the runtime, or holds no exported detector, or the runtime is not installed.
    """

    def __init__(self, path: str | Path, runtime: str | None = None) -> None:
        path = Path(path)
        runtime = runtime or runtime_of_file(path)
        if runtime is None or runtime not in OPENERS:
            raise InputError(f"there is no runtime {runtime!r} for {path}: expected {', '.join(OPENERS)}")
        if not path.is_file():
            raise InputError(f"{path} is not a file: expected one that padim-zoo export wrote")
        if file_type(path) == "a safetensors file":
            raise InputError(
                f"{path} is a safetensors file, as saved detectors are, which {runtime} does not run: export it first, "
                f"padim-zoo export {path} --format {runtime}"
            )
        self.path = path
        self.session = OPENERS[runtime](path)
        self.metadata = Metadata.parse(path, self.session.text)
        if not self.session.sealed:
            raise InputError(f"{path} is not as padim-zoo export wrote it: its digest differs; export the model again")
        self.transform: Transform = self.metadata.transform
        self.threshold_ = self.metadata.threshold
        self.makes_maps = self.metadata.makes_maps

    def predict(self, images: Iterable[Any]) -> Scored:
        """Score image files, or decoded images as arrays (H, W, 3), uint8.

        Raises
        ------
        InputError
            If an image cannot be read, or its size is not that of the file.
        """
        with collecting() as notes, ThreadPoolExecutor(THREADS) as pool:

            def prepare(image: Any) -> np.ndarray:
                with notes.listening():
                    return self._prepared(image)

            batch = list(pool.map(prepare, images))
        if not batch:
            raise InputError("there are no images to score: expected at least one")
        return Scored(*self._outputs(np.stack(batch)))

    def _outputs(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores (N,) and maps (N, H, W) of a batch, of the shapes that they are to have."""
        try:
            outputs = self.session.run(batch)
        except Exception as error:  # runtimes raise whatever they like
            reason = " ".join(_FROM_THE_RUNTIME.sub("", str(error)).split())[:160]
            raise InputError(f"{self.path} cannot be run ({reason}): export the model again") from None
        scores, maps = outputs.get("scores"), outputs.get("maps")
        if scores is None or scores.shape != (len(batch),) or scores.dtype.kind != "f":
            raise InputError(f"{self.path} does not give one score for each image: export the model again")
        if not np.isfinite(scores).all():
            raise InputError(f"{self.path} gives scores that are not finite: export the model again")
        if self.makes_maps and (maps is None or maps.ndim != 3 or len(maps) != len(batch) or maps.dtype.kind != "f"):
            raise InputError(f"{self.path} does not give one map for each image: export the model again")
        return scores, maps if self.makes_maps else None

    @property
    def decision(self) -> tuple[str, float | None]:
        """As of a detector: which threshold decides, here that of images, and where it is."""
        return DECIDES[0], self.threshold_

    def color_scale(self, threshold: float | None = None) -> tuple[Scale, float]:
        """As of a detector: what the colors of pictures rest on."""
        if threshold is None and self.metadata.region_threshold is not None:
            return scale_of_maps(self.metadata.region_threshold, self.metadata.map_scale, True)
        limit = self.threshold_ if threshold is None else threshold
        return scale_of_maps(limit, self.metadata.map_scale, self.metadata.score_is_map_maximum)

    def region_rule(self, threshold: float | None = None) -> RegionRule:
        """As of a detector: what a region is. It has no p-value, for the file holds no normal scores."""
        _, limit = self.color_scale(threshold)
        return RegionRule(limit, self.metadata.region_area if threshold is None else 1)

    def _prepared(self, image: Any) -> np.ndarray:
        depth = self.transform.bit_depth
        pixels = read_image(image, depth) if isinstance(image, (str, Path)) else to_image(image, bit_depth=depth)
        if not self.metadata.includes_transform:
            pixels = self.transform.image(pixels)
        wanted = self.metadata.input_size
        if pixels.shape[:2] != wanted:
            name = image if isinstance(image, (str, Path)) else "an image"
            after = "" if self.metadata.includes_transform else " after the transform"
            raise InputError(
                f"{name} has {_pixels(pixels.shape)}{after}, but {self.path} takes {_pixels(wanted)}: use "
                "images of the same shape, or export for this one (padim-zoo export --input-size)"
            )
        return pixels


def runtime_of_file(path: Path) -> str | None:
    """The runtime of files with this suffix, if there is one."""
    return next((name for name, suffix in SUFFIXES.items() if path.suffix.lower() == suffix), None)


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]} pixels"
