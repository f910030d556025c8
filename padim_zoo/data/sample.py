"""What a dataset is made of: samples, in categories."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Sample:
    """One image and what is known about it.

    Attributes
    ----------
    path : Path
        The image file.
    label : int
        0 for a normal image, 1 for an anomalous one.
    kind : str
        The kind of defect, ``"good"`` for normal images.
    masks : tuple of Path
        Ground-truth mask files, whose union is the anomalous region. Empty for normal images, and for
        anomalous images without ground truth.
    """

    path: Path
    label: int
    kind: str = "good"
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Category:
    """One category of a dataset: normal images to fit, and images to test."""

    dataset: str
    name: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]

    def fingerprint(self) -> str:
        """Hex digest that changes when a file, a label or the split changes.

        Files count by the last three parts of their path, size and modification time: cheap for any
        number of images, and the same wherever the data set is mounted.
        """
        digest = hashlib.sha256()
        for split, samples in (("train", self.train), ("test", self.test)):
            for sample in samples:
                for path in (sample.path, *sample.masks):
                    status = path.stat()
                    tail = "/".join(path.parts[-3:])
                    line = f"{split}\0{sample.label}\0{tail}\0{status.st_size}\0{status.st_mtime_ns}\n"
                    digest.update(line.encode())
        return digest.hexdigest()[:16]


class Dataset(Protocol):
    """A data set: categories by name, each loaded when asked for."""

    @property
    def name(self) -> str:
        """The registered name."""

    def categories(self) -> list[str]:
        """The names of the categories, sorted."""

    def load(self, category: str) -> Category:
        """List the files of one category; no image is decoded."""
