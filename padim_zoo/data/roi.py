"""Regions of interest: masks of the pixels that count, one for all images or one for each."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.data.files import images_below
from padim_zoo.data.image import IMAGE_SUFFIXES, image_size, size_text
from padim_zoo.data.mask import read_mask


class RegionOfInterest:
    """The pixels of images that count, before the transform.

    Parameters
    ----------
    source : path, ndarray (H, W) or RegionOfInterest
        A mask file, for all images; a folder with one mask for each image; or a mask, of which what is not zero counts.
        Files are read as ground-truth masks are (:mod:`padim_zoo.data.mask`), but may mark all of an image. In a
        folder the mask of ``…/train/good/000.png`` is ``train/good/000.png``, ``good/000.png`` or ``000.png``, the
        first that is there, with the suffix of any image format and with or without ``_mask`` at the end of its name.

    Raises
    ------
    InputError
        If there is no such file or folder, or it holds no image, or a mask is empty.
    """

    def __init__(self, source: Any) -> None:
        self.folder: Path | None = None
        self.mask: np.ndarray | None = None
        self.name = "the region of interest"
        self._masks: dict[tuple[str, ...], Path] = {}
        self._image_of_mask: dict[Path, Path] = {}
        self._lock = Lock()
        self._intersected: RegionOfInterest | None = None
        if isinstance(source, RegionOfInterest):
            vars(self).update(vars(source))
        elif isinstance(source, np.ndarray):
            if source.ndim != 2:
                raise InputError(f"roi is an array of shape {source.shape}: expected a mask (H, W)")
            self.mask = source != 0
            self._refuse_empty(self.mask, "roi")
        elif isinstance(source, (str, Path)):
            self._open(Path(source))
        else:
            raise InputError(f"roi is a {type(source).__name__}: expected a mask file, a folder of masks, or an array")

    def _open(self, path: Path) -> None:
        if path.is_dir():
            self.folder = path
            masks = images_below(path)
            if not masks:
                raise InputError(f"roi {path} has no mask in it: expected {', '.join(sorted(IMAGE_SUFFIXES))} files")
            for mask in masks:
                parts = mask.relative_to(path).with_suffix("").parts
                key = (*parts[:-1], parts[-1].removesuffix("_mask"))
                if key in self._masks:
                    raise InputError(f"roi has two masks of one name, {self._masks[key]} and {mask}: remove one")
                self._masks[key] = mask
        elif path.is_file():
            self.name = f"the region of interest {path}"
            self.mask = read_mask([path], image_size(path), whole=True)
            self._refuse_empty(self.mask, f"roi {path}")
        else:
            raise InputError(f"roi {path} does not exist: expected a mask file, or a folder with a mask for each image")

    @classmethod
    def both(cls, one: RegionOfInterest, other: RegionOfInterest) -> RegionOfInterest:
        """The pixels that count in both."""
        inner = cls(other)
        inner._intersected = one
        return inner

    @property
    def common(self) -> bool:
        """Whether one mask serves all images."""
        return self.mask is not None and (self._intersected is None or self._intersected.common)

    def mask_of(self, path: Path | None, name: str, size: tuple[int, int]) -> np.ndarray:
        """The mask (H, W), bool, of an image.

        Parameters
        ----------
        path : Path or None
            The image's file, by whose name its mask is found.
        name : str
            What errors call the image.
        size : tuple of int
            Its height and width.

        Raises
        ------
        InputError
            If there is no mask for it, or it has another size, or no pixel that counts; or if the mask found has been
            that of another image before.
        """
        if self._intersected is not None:
            both: np.ndarray = self._mask_of(path, name, size) & self._intersected.mask_of(path, name, size)
            self._refuse_empty(both, f"what {self.name} and {self._intersected.name} have in common")
            return both
        return self._mask_of(path, name, size)

    def _mask_of(self, path: Path | None, name: str, size: tuple[int, int]) -> np.ndarray:
        if self.mask is not None:
            if self.mask.shape != size:
                raise InputError(
                    f"{self.name} is {size_text(self.mask.shape)} but {name} is {size_text(size)} "
                    "(height x width): a mask must have the size of its image, before the resize"
                )
            return self.mask
        if path is None:
            raise InputError(f"{name} has no file name to find its mask in {self.folder}: give paths, or one mask")
        file = self._mask_file(path)
        mask = read_mask([file], size, path, whole=True)
        self._refuse_empty(mask, f"the region of interest {file} of {path}")
        return mask

    def _mask_file(self, path: Path) -> Path:
        path = path.absolute()  # one image is one image, from whichever folder it is named
        parts = path.with_suffix("").parts
        for start in range(len(parts)):
            file = self._masks.get(parts[start:])
            if file is not None:
                with self._lock:
                    other = self._image_of_mask.setdefault(file, path)
                if other != path:
                    raise InputError(
                        f"{file} matches both {other} and {path} by name: expected a region of interest "
                        "for each, in folders named like theirs"
                    )
                return file
        raise InputError(
            f"{path} has no region of interest in {self.folder}: expected a mask named {path.stem} or {path.stem}_mask"
        )

    @staticmethod
    def _refuse_empty(mask: np.ndarray, name: str) -> None:
        if not mask.any():
            raise InputError(f"{name} is all black, so nothing is of interest: expected white where pixels count")

    def fingerprint(self) -> str:
        """Hex digest that changes when a pixel of a mask, or the name of one in a folder, changes."""
        digest = hashlib.sha256()
        if self.mask is not None:
            digest.update(f"{self.mask.shape}".encode() + np.packbits(self.mask).tobytes())
        for key, path in sorted(self._masks.items()):
            digest.update(
                "/".join(key).encode(errors="surrogateescape") + b"\0" + hashlib.sha256(path.read_bytes()).digest()
            )
        if self._intersected is not None:
            digest.update(b"within" + self._intersected.fingerprint().encode())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        """Whether both stand for the same mask, or for the same folder, within equal regions."""
        if not isinstance(other, RegionOfInterest):
            return NotImplemented
        same_source = self._intersected == other._intersected and self.folder == other.folder
        return same_source and (self.mask is other.mask or np.array_equal(self.mask, other.mask))  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]
