"""The regions of predictions as a file: JSON of this package, or COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from padim_zoo.core.atomic_write import write_text_whole
from padim_zoo.core.numbers import number_of
from padim_zoo.core.printable import printable
from padim_zoo.data.image import image_size
from padim_zoo.detectors.regions import Region, find_regions, to_coco

COCO = ".coco.json"
"""How the name of a file in the format of COCO ends."""


class RegionFile:
    """Gathers the regions of images, and writes them as one file.

    Parameters
    ----------
    path : Path
        COCO, if its name ends in :data:`COCO`.
    model : Path
        What the file calls it.
    detector : Detector or ExportedModel
    threshold : float, optional
        Instead of the detector's own.

    Raises
    ------
    InputError
        If there is no threshold, or the detector makes no maps.
    """

    def __init__(self, path: Path, model: Path, detector: Any, threshold: float | None) -> None:
        self._path, self._model = path, model
        self._rule, self._transform = detector.region_rule(threshold), detector.transform
        self._images: list[tuple[str, tuple[int, int], list[Region]]] = []
        self._decisions: list[dict[str, Any]] = []

    def add(self, path: Path, score: float | None, anomalous: bool | None, pictured: np.ndarray) -> None:
        """Find the regions of an image on its map (h, w), NaN where nothing was scored.

        Raises
        ------
        InputError
            If the image is no longer there.
        """
        size = image_size(path)
        self._images.append((printable(path), size, find_regions(pictured, self._rule, self._transform, size)))
        self._decisions.append({"score": score, "anomalous": anomalous})

    def write(self) -> str:
        """Write the file, whole or not at all, and say what it holds.

        Raises
        ------
        WriteError
            If it cannot be written.
        """
        coco = self._path.name.lower().endswith(COCO)
        document = to_coco(self._images) if coco else self._document()
        write_text_whole(self._path, json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
        count = sum(len(regions) for *_, regions in self._images)
        least = f", of {self._rule.area} pixels of the map or more" if self._rule.area > 1 else ""
        regions = f"{number_of(count, 'region')} above {self._rule.threshold:.4g}{least}"
        return f"{regions} in {self._path}{' (COCO)' if coco else ''}"

    def _document(self) -> dict[str, Any]:
        images = [
            {
                "path": name,
                "height": size[0],
                "width": size[1],
                **decision,
                "regions": [one.to_dict() for one in regions],
            }
            for (name, size, regions), decision in zip(self._images, self._decisions, strict=True)
        ]
        rule = {"threshold": self._rule.threshold, "least_area": self._rule.area}
        return {"model": str(self._model), **rule, "images": images}
