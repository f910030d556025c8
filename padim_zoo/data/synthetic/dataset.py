"""The synthetic data set on disk, in the layout of MVTec AD."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from padim_zoo import registry
from padim_zoo.core.atomic_write import draft_folder, write_text_whole
from padim_zoo.core.cache_folder import cache_folder
from padim_zoo.core.errors import InputError, WriteError
from padim_zoo.core.fields import read_json
from padim_zoo.core.file_lock import changing
from padim_zoo.core.progress import told
from padim_zoo.data import png
from padim_zoo.data.layout import PADIM_PAPER, ListedDataset, list_category
from padim_zoo.data.sample import Category, Dataset
from padim_zoo.data.synthetic.ahead import draw_ahead, wait_for
from padim_zoo.data.synthetic.scene import CATEGORIES, KINDS, Picture, take

VERSION = 2
"""Goes up with every change of the pixels."""

MANIFEST = "synthetic.json"
_SMALLEST_SIZE = 32
SMALLEST_AREA = 10
"""Pixels of the smallest defect."""
# A fixed time of modification: the same pictures made again are the same data set to `Category.fingerprint`.
_MODIFIED = 1_700_000_000 + VERSION


@dataclass(frozen=True)
class Parameters:
    """What decides the pixels of a generated folder; written to its manifest.

    Attributes
    ----------
    train, good : int
        Normal images to fit and to test, per category.
    defects_per_kind : int
        Anomalous test images per kind of defect and category. Nine cover every combination of three
        contrasts and three extents, three cover each of these once.
    size : int or (int, int)
        Height and width in pixels.
    defect_area : (int, int), optional
        Fewest and most pixels of a defect; by default it covers a share of the image.
    seed : int
        Another seed gives other specimens of the same categories.
    version : int
        Of the code that draws them.
    """

    train: int = 40
    good: int = 12
    defects_per_kind: int = 3
    size: int | tuple[int, int] = 256
    defect_area: tuple[int, int] | None = None
    seed: int = 0
    version: int = VERSION

    def __post_init__(self) -> None:
        for name in ("size", "defect_area"):  # JSON has lists
            value = getattr(self, name)
            if isinstance(value, (list, tuple)):
                pair = tuple(value)
                square = name == "size" and len(set(pair)) == 1
                object.__setattr__(self, name, pair[0] if square else pair)
        lowest = {"train": 1, "good": 0, "defects_per_kind": 0, "size": _SMALLEST_SIZE, "seed": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            values = value if name == "size" and isinstance(value, tuple) and len(value) == 2 else (value,)
            if not all(type(number) is int and number >= least for number in values):
                raise InputError(f"synthetic: {name} is {value!r}, expected a whole number of at least {least}")
        if self.defect_area is not None:
            self._check_area(self.defect_area)

    def _check_area(self, area: tuple[int, int]) -> None:
        """Refuse areas that no defect can have: of few pixels, in a narrow range, or of most of the image."""
        side = self.size if isinstance(self.size, int) else min(self.size)
        numbers = len(area) == 2 and all(isinstance(number, int) for number in area)
        if not numbers or not SMALLEST_AREA <= area[0] <= area[1] / 2 or area[1] > (side / 10) ** 2:
            raise InputError(
                f"synthetic: defect_area is {area!r}, expected two numbers of pixels, the second at least twice the "
                f"first, from {SMALLEST_AREA} to {int((side / 10) ** 2)}, a hundredth of the smallest square"
            )

    def pictures(self, category: str) -> list[Picture]:
        """Every picture of a category."""
        counts = {("train", "good"): self.train, ("test", "good"): self.good}
        counts |= {("test", kind): self.defects_per_kind for kind in KINDS}
        return [Picture(category, *folder, number) for folder, count in counts.items() for number in range(count)]


def generate(root: str | Path, *, categories: Iterable[str] | None = None, **parameters: Any) -> Path:
    """Write the synthetic data set: ``CATEGORY/{train/good, test/KIND, ground_truth/KIND}``.

    A category appears whole or not at all; one that is there already is kept. Several processes may
    generate into one folder at once.

    Parameters
    ----------
    root : path
        A new or empty folder, or one that an earlier call with the same parameters has made.
    categories : iterable of str, optional
        All by default.
    **parameters
        As :class:`Parameters` has them.

    Returns
    -------
    Path
        ``root``.

    Raises
    ------
    InputError
        If a parameter is out of range, a category is unknown, or ``root`` holds anything else.
    """
    root = Path(root)
    names = [field.name for field in fields(Parameters)]
    for name in parameters:
        if name not in names:
            raise InputError(f"synthetic has no parameter {name!r}: expected {', '.join(names)}")
    asked = Parameters(**parameters)
    if isinstance(categories, str) or not isinstance(categories, Iterable | None):
        raise InputError(f"categories is {categories!r}: expected a list of names, or None for all")
    wanted = list(CATEGORIES if categories is None else dict.fromkeys(categories))
    for category in wanted:
        if category not in CATEGORIES:
            raise InputError(f"synthetic has no category {category!r}: choose from {', '.join(sorted(CATEGORIES))}")
    _claim(root, asked)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for category in wanted:
            _generate_category(root, category, asked, pool)
    return root


def read_manifest(root: Path) -> Parameters | None:
    """The parameters that a folder was generated with, or None if it has no manifest.

    Raises
    ------
    InputError
        If the manifest cannot be read.
    """
    try:
        text = (root / MANIFEST).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return Parameters(**read_json(text)["parameters"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{root / MANIFEST} is not a manifest of synthetic data: delete the folder to have it made again"
        ) from None


def _claim(root: Path, parameters: Parameters) -> None:
    """Make sure that ``root`` is ours: new, empty, or made with the same parameters."""
    if read_manifest(root) == parameters:
        return
    with changing(root / MANIFEST):
        if not _is_made_with(root, parameters):
            document = {"dataset": "synthetic", "parameters": asdict(parameters)}
            write_text_whole(root / MANIFEST, json.dumps(document, indent=2) + "\n")


def _is_made_with(root: Path, parameters: Parameters) -> bool:
    """Whether ``root`` holds data of these parameters, and not nothing; anything else is an InputError."""
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file: expected a new or empty folder for synthetic data")
    names = [path.name for path in root.iterdir()] if root.is_dir() else []
    # After the names: where the system has no locks, another process may have written the manifest, and then data.
    earlier = read_manifest(root)
    if earlier is None:
        # Another process may be writing a draft of the manifest.
        if any(not name.startswith((MANIFEST, f".{MANIFEST}.")) for name in names):
            raise InputError(
                f"{root} is not empty and has no {MANIFEST}: choose a new or empty folder for synthetic data"
            )
        return False
    if earlier != parameters:
        pairs = zip(asdict(earlier).items(), asdict(parameters).values(), strict=True)
        differ = ", ".join(f"{name} {old} (asked for: {new})" for (name, old), new in pairs if old != new)
        raise InputError(f"{root} holds synthetic data with {differ}: choose another folder or delete this one")
    return True


def _generate_category(root: Path, category: str, parameters: Parameters, pool: ThreadPoolExecutor) -> None:
    target = root / category
    wait_for(target)
    pictures = parameters.pictures(category)
    if target.is_dir():
        missing = sum(not path.is_file() for picture in pictures for path in _files(target, picture))
        if missing:
            raise InputError(f"{target} lacks {missing} of its files: delete that folder to have it made again")
        return
    try:
        with draft_folder(target) as draft:
            for folder in {path.parent for picture in pictures for path in _files(draft, picture)}:
                folder.mkdir(parents=True, exist_ok=True)
            try:
                drawn = pool.map(partial(_write, draft, parameters), pictures)
                for _ in told(drawn, f"drawing {category}", len(pictures)):
                    pass
            except BaseException:  # no thread may draw into a folder that is being removed
                pool.shutdown(cancel_futures=True)
                raise
            draft.rename(target)
    except OSError as error:
        # Another process that generates the same category may have been first; its files are the same.
        if not target.is_dir():
            raise WriteError(target, error.strerror or str(error), error.errno) from None


def _files(folder: Path, picture: Picture) -> list[Path]:
    """Where a picture goes, and its mask if it has one."""
    name = f"{picture.number:03d}"
    image = folder / picture.split / picture.kind / f"{name}.png"
    if picture.kind == "good":
        return [image]
    return [image, folder / "ground_truth" / picture.kind / f"{name}_mask.png"]


def _write(folder: Path, parameters: Parameters, picture: Picture) -> None:
    shot = take(picture, parameters.size, parameters.seed, parameters.defect_area)
    image, *masks = _files(folder, picture)
    image.write_bytes(png.encoded(shot.image))
    for mask in masks:
        Image.fromarray(shot.mask).save(mask, compress_level=1)
    for path in (image, *masks):
        os.utime(path, (_MODIFIED, _MODIFIED))


def _load(root: Path, parameters: Parameters, category: str) -> Category:
    generate(root, categories=[category], **asdict(parameters))
    return list_category("synthetic", root / category, expected_mask="{stem}_mask.png")


@registry.datasets.register(
    "synthetic",
    summary="8 drawn textures and objects with exact masks; generated at first use, no download",
    categories=len(CATEGORIES),
)
def synthetic(root: str | Path | None = None, size: int = 256, seed: int = 0) -> Dataset:
    """The synthetic data set in ``root``, or in the cache folder; each category is generated when first loaded.

    A ``root`` that was generated before keeps the parameters that it was made with.
    """
    if root is None:
        parameters = Parameters(size=size, seed=seed)
        folder = cache_folder() / "synthetic" / f"v{VERSION}-size{size}-seed{seed}"
    else:
        folder = Path(root)
        parameters = read_manifest(folder) or Parameters(size=size, seed=seed)
    listings = {category: partial(_load, folder, parameters, category) for category in CATEGORIES}
    prepare = partial(draw_ahead, folder, parameters=asdict(parameters))
    return ListedDataset("synthetic", listings, PADIM_PAPER, prepare)
