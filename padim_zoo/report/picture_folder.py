"""Pictures and maps of predictions as files in a folder, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from padim_zoo.core.atomic_write import write_whole
from padim_zoo.core.errors import InputError
from padim_zoo.data.image import read_image
from padim_zoo.data.transform import Transform
from padim_zoo.pictures.colormap import Scale, color_table
from padim_zoo.pictures.kinds import MAPLESS, PictureChoice

HALF = 0.5
"""A pixel of the photo is marked where more than this of it is, of a mask after the transform."""


@dataclass(frozen=True)
class PictureFolder:
    """Writes ``FOLDER/KIND/NAME.png`` for each kind asked for, all on one color scale.

    Attributes
    ----------
    folder : Path
    choice : PictureChoice
    transform : Transform
        What the detector did to the images; pictures show the photos before it.
    threshold : float
        Images whose score exceeds it are anomalous.
    scale : (low, high), optional
        The scores of the first and the last color; none of a detector without maps.
    map_threshold : float, optional
        Pixels that exceed it lie within the boundary.
    """

    folder: Path
    choice: PictureChoice
    transform: Transform
    threshold: float
    scale: Scale | None
    map_threshold: float | None

    def write(
        self, name: Path, path: Path, score: float, anomaly_map: np.ndarray | None, mask: np.ndarray | None = None
    ) -> None:
        """Write the pictures of the photo at ``path``, in its own size.

        ``anomaly_map`` and ``mask``, its ground truth, are of the image after the transform.
        """
        # Needs scipy, which predictions without pictures do without.
        from padim_zoo.pictures.drawing import ScoredPhoto, draw

        image = read_image(path, self.transform.bit_depth)
        height, width = image.shape[:2]

        def on_photo(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else self.transform.on_original(values, height, width)

        looked_at = on_photo(np.zeros(self.transform.output_size(height, width)))
        assert looked_at is not None
        truth = on_photo(mask)
        scored = ScoredPhoto(
            image,
            score,
            self.threshold,
            ~np.isnan(looked_at),
            on_photo(anomaly_map),
            self.scale,
            self.map_threshold,
            None if truth is None else truth > HALF,
        )
        for kind in self.choice.kinds:
            picture = Image.fromarray(draw(kind, scored, self.choice.alpha, self.choice.colormap))
            target = self.folder / kind / name.with_name(f"{name.name}.png")
            write_whole(target, partial(picture.save, format="PNG"))


def picture_folder(
    folder: Path | None, choice: PictureChoice, detector: Any, model: Path, threshold: float | None
) -> PictureFolder | None:
    """Where the pictures of a detector's predictions go; None without a folder, or if no kind is chosen.

    Parameters
    ----------
    folder : Path or None
    choice : PictureChoice
    detector : Detector or ExportedModel
    model : Path
        What errors call it.
    threshold : float or None
        Instead of the detector's own.

    Raises
    ------
    InputError
        If there is no threshold, the color map is unknown, or a kind of picture needs maps that the detector does not
        make.
    """
    if folder is None or not choice.kinds:
        return None
    of_maps = [kind for kind in choice.kinds if kind not in MAPLESS]
    if of_maps and not detector.makes_maps:
        raise InputError(f"{model} makes no anomaly maps: leave {', '.join(of_maps)} out of --pictures")
    scale, map_threshold = detector.color_scale(threshold) if of_maps else (None, None)
    limit = detector.decision[1] if threshold is None else threshold
    if limit is None:
        raise InputError("the model has no threshold to decide by: give --threshold")
    color_table(choice.colormap)  # refused before any work is done
    return PictureFolder(folder, choice, detector.transform, limit, scale, map_threshold)


def write_map(folder: Path, name: Path, anomaly_map: np.ndarray) -> None:
    """Write ``FOLDER/maps/NAME.npy``, float32 (H, W)."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, anomaly_map, allow_pickle=False)

    write_whole(folder / "maps" / name.with_name(f"{name.name}.npy"), write)


def refuse_among_images(output: Path, kinds: Iterable[str], folders: Iterable[Path], images: Iterable[Path]) -> None:
    """Refuse to write pictures where they would be images of the next run.

    Parameters
    ----------
    output : Path
        The folder of the pictures.
    kinds : iterable of str
        Its subfolders.
    folders : iterable of Path
        Folders of which everything below is an image.
    images : iterable of Path

    Raises
    ------
    InputError
        If ``output`` lies in one of ``folders``, or one of its subfolders holds one of ``images``.
    """
    target = output.resolve()
    taken = [folder for folder in folders if target.is_relative_to(folder.resolve())]
    of_images = {image.parent.resolve() for image in images}
    taken += [target / kind for kind in kinds if target / kind in of_images]
    if taken:
        raise InputError(
            f"--output {output} lies among the images in {taken[0]}: its pictures would be images of the next run; "
            "name another folder"
        )


def picture_names(paths: Sequence[Path]) -> list[Path]:
    """Where each image's pictures go, below a folder, without suffix: no two agree, in any case of letters.

    Images keep their folders below the folder that all of them share. ``..`` in a path leads nowhere else.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    shared = os.path.commonpath([path.parent for path in absolute])
    taken: set[str] = set()
    names: list[Path] = []
    for path in absolute:
        name = path.relative_to(shared).with_suffix("")
        candidate, number = name, 1
        while str(candidate).casefold() in taken:
            number += 1
            candidate = name.with_name(f"{name.name}-{number}")
        taken.add(str(candidate).casefold())
        names.append(candidate)
    return names
