"""What is wrong with a data set on disk, found before hours are spent on it."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import in_number, number_of
from padim_zoo.core.progress import told
from padim_zoo.data.bit_depth import FULL_DEPTH, largest_of
from padim_zoo.data.coverage import Coverage, coverage
from padim_zoo.data.duplicates import count_compared, duplicates_of, without_thumbnail
from padim_zoo.data.file_notes import FileNotes, counted, note
from padim_zoo.data.files import images_below
from padim_zoo.data.grid import look_ahead
from padim_zoo.data.image import image_mode, read_image, size_text
from padim_zoo.data.image_hashes import Fingerprint, fingerprint
from padim_zoo.data.kinds import is_normal_kind
from padim_zoo.data.layout import dataset_root
from padim_zoo.data.mask import looks_inverted, read_mask
from padim_zoo.data.mask_files import name_of_owner
from padim_zoo.data.own_images import LAYOUTS, Fingerprints
from padim_zoo.data.sample import Category, Dataset, Sample, protocol_of
from padim_zoo.data.training_depth import counts_of_images
from padim_zoo.data.transform import Transform, choose_grid

FEW_TEST_IMAGES = 20
"""Of each label. Below so many the interval of an AUROC says little."""
LEVEL = 0.05
"""One minus the confidence of intervals; see ``_exact_bounds`` in :mod:`padim_zoo.metrics.confidence`."""

FEW_NORMAL_IMAGES = 10
"""Below so many normal images a report warns: folds of one or two images, and a covariance of noise."""

UNREADABLE = ("images cannot be read", "image cannot be read")
"""The ends of the message on images that ``--skip-unreadable`` leaves out."""

Severity = Literal["error", "warning"]

# Layouts are tried in this order; "folder" takes MVTec AD and MVTec LOCO too, and goes on where a mask is missing.
_LAYOUTS = ("folder", "btad", "visa", "kolektorsdd")


@dataclass(frozen=True)
class Problem:
    """One kind of problem, with everything that has it.

    Attributes
    ----------
    severity : str
        ``"error"``: a run fails or its figures mean nothing; ``"warning"``: worth knowing.
    message : str
        One line for all.
    items : tuple of str
        One line for each file or pair of files concerned; empty if it concerns the whole category.
    """

    severity: Severity
    message: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What one category holds and what is wrong with it.

    Attributes
    ----------
    dataset, category : str
        Their names.
    counts : mapping of str to mapping of str to int
        Images by split (``"train"``, ``"test"``) and kind.
    sizes : mapping of str to int
        Readable images by ``"HEIGHTxWIDTH"``.
    modes : mapping of str to int
        Readable images by Pillow's mode: ``"RGB"``, ``"L"``, ``"I;16"`` …
    problems : tuple of Problem
        Errors first.
    coverage : Coverage or None
        What a fit with the data set's protocol, or by default, looks at.
    """

    dataset: str
    category: str
    counts: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, int]
    modes: Mapping[str, int]
    problems: tuple[Problem, ...]
    coverage: Coverage | None = None

    @property
    def usable(self) -> bool:
        """Whether there is no error."""
        return all(problem.severity != "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON's types."""
        return {
            **asdict(self),
            "problems": [{**asdict(p), "items": list(p.items)} for p in self.problems],
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
        }


@dataclass(frozen=True)
class _Finding:
    """What decoding one image and its masks gave."""

    sample: Sample
    size: tuple[int, int] | None = None
    mode: str = ""
    fingerprint: Fingerprint | None = None
    broken_image: str = ""
    broken_masks: tuple[str, ...] = ()
    empty_mask: bool = False


STRIDE = 16
"""The coarsest stride of the usual layers, by which a fit would round its grid."""


def check(source: str | Path | Category | Dataset, transform: Transform | None = None) -> list[Report]:
    """Read every image and mask of a category, or of every category below a folder.

    Parameters
    ----------
    source : path, Category or Dataset
        A folder in the layout of any registered data set, e.g. one that has ``train/good``, or a glob pattern of normal
        images; a loaded category; or a data set.
    transform : Transform, optional
        What a fit would do, where the data set has no protocol. Without one nothing is said of what is looked at.

    Returns
    -------
    list of Report
        One for each category, sorted by name.

    Raises
    ------
    InputError
        If the folder has no known layout.
    """
    if isinstance(source, Category):
        return [_check_category(source, transform)]
    dataset = data_set_at(source) if isinstance(source, (str, Path)) else source
    return [_check_by_name(dataset, name, protocol_of(dataset) or transform) for name in dataset.categories()]


def data_set_at(source: str | Path, fingerprints: Fingerprints | None = None) -> Dataset:
    """The data set in a folder, by its layout, or of normal images that a pattern matches.

    ``fingerprints`` are as of :func:`padim_zoo.data.own_images.folder`.

    Raises
    ------
    InputError
        If the folder has no known layout.
    """
    if not Path(source).exists() and glob.has_magic(str(source)):
        return registry.datasets.create("folder", normal=source, fingerprints=fingerprints)
    folder = dataset_root("folder", source, LAYOUTS)
    for layout in _LAYOUTS:
        with suppress(InputError):
            more = {"fingerprints": fingerprints} if layout == "folder" else {}
            return registry.datasets.create(layout, root=folder, **more)
    raise InputError(f"{source} has no known layout: expected {LAYOUTS}; or a copy of a public data set")


def _check_by_name(dataset: Dataset, name: str, transform: Transform | None) -> Report:
    try:
        category = dataset.load(name)
    except InputError as error:  # a category that cannot even be listed must not hide the others
        return Report(dataset.name, name, {}, {}, {}, (Problem("error", str(error)),))
    return _check_category(category, transform)


def _check_category(category: Category, transform: Transform | None) -> Report:
    depth = counts_of_images([sample.path for sample in category.train]).depth_or_full
    notes = FileNotes()
    samples = (*category.train, *category.test)
    n_train = len(category.train)
    n_compared = count_compared(len(samples), n_train)
    with ThreadPoolExecutor() as executor:
        compared = [index < n_compared for index in range(len(samples))]
        read = executor.map(partial(_examine, depth=depth, notes=notes), samples, compared)
        findings = list(told(read, f"reading {category.name}", len(samples)))
    train, test = findings[:n_train], findings[n_train:]
    readable = [finding for finding in (*train, *test) if finding.size is not None]
    sizes = Counter(size_text(finding.size) for finding in readable if finding.size is not None)
    problems = [*_file_problems(category, train, test), *_split_problems(category), *_copies(train, test, n_compared)]
    problems += [Problem("warning", line) for line in category.notes]
    problems += [Problem("warning", counted(kind, len(files)), tuple(files)) for kind, files in notes.by_kind().items()]
    if depth < FULL_DEPTH:
        hold = f"the normal images hold {depth} bits in 16-bit samples: white is taken as {largest_of(depth)}"
        problems.append(Problem("warning", f"{hold}; set --bit-depth if that is wrong"))
    seen = None if transform is None else _look(category, transform)
    several = f"{len(sizes)} sizes, {', '.join(f'{size} ({count})' for size, count in sizes.most_common(4))}"
    if seen is not None and seen.note is not None:
        problems.append(Problem("warning", f"{seen.note}; there are {several}"))
    elif len(sizes) > 1:
        problems.append(Problem("warning", f"images have {several}: all are resized to one grid"))
    return Report(
        category.dataset,
        category.name,
        {"train": _kinds(category.train), "test": _kinds(category.test)},
        dict(sizes.most_common()),
        dict(Counter(finding.mode for finding in readable).most_common()),
        tuple(sorted(problems, key=lambda problem: problem.severity)),
        seen,
    )


def _look(category: Category, transform: Transform) -> Coverage | None:
    """What a fit on a category looks at; None where no image of it can be read."""
    stride = None
    if isinstance(transform.resize, int) and transform.crop is None:
        try:
            sizes, _ = look_ahead(category.train)
        except InputError:
            return None
        stride = STRIDE
        transform = transform.on_grid(choose_grid(sizes, transform.resize, stride))
    return coverage(transform, (*category.train, *category.test), stride)


def _examine(sample: Sample, compared: bool, depth: int, notes: FileNotes) -> _Finding:
    with notes.listening():
        finding = _read(sample, depth)
    if compared or finding.fingerprint is None:
        return finding
    return replace(finding, fingerprint=without_thumbnail(finding.fingerprint))


def _read(sample: Sample, depth: int) -> _Finding:
    try:
        image = read_image(sample.path, depth)
    except InputError as error:
        return _Finding(sample, broken_image=str(error))
    size = image.shape[0], image.shape[1]
    masks = [_examine_mask(path, size, sample.path) for path in sample.masks]
    broken = tuple(mask for mask in masks if isinstance(mask, str))
    empty = bool(masks) and not any(masks)
    return _Finding(sample, size, image_mode(sample.path), fingerprint(image), broken_masks=broken, empty_mask=empty)


def _examine_mask(path: Path, size: tuple[int, int], image: Path) -> bool | str:
    """Whether a pixel is marked, or why the mask cannot be used."""
    try:
        mask = read_mask([path], size, image)
        if looks_inverted(mask):
            note("inverted mask", str(path))
        return bool(mask.any())
    except InputError as error:
        return str(error)


def _file_problems(category: Category, train: list[_Finding], test: list[_Finding]) -> Iterable[Problem]:
    broken_images = [f.broken_image for f in (*train, *test) if f.broken_image]
    broken_masks = [message for f in (*train, *test) for message in f.broken_masks]
    empty_masks = [f.sample.path for f in test if f.empty_mask]
    anomalous = [sample for sample in category.test if sample.label]
    bare = [sample.path for sample in anomalous if not sample.masks]
    if bare and len(bare) == len(anomalous):
        yield Problem("warning", "no anomalous image has a mask: only image-level figures can be computed")
        bare = []
    affected: tuple[tuple[Severity, str, Sequence[object]], ...] = (
        ("error", "{images|image} cannot be read", broken_images),
        (
            "error",
            "{masks|mask} cannot be read or {have not the size of their|has not the size of its} image",
            broken_masks,
        ),
        ("warning", "anomalous {images have|image has} no mask and {are|is} left out of pixel figures", bare),
        ("warning", "anomalous {images have|image has} a mask without a marked pixel", empty_masks),
        ("warning", "{masks belong|mask belongs} to no image", _stray_masks(category)),
    )
    for severity, message, items in affected:
        if items:
            yield Problem(severity, in_number(len(items), message), tuple(map(str, items)))


def _copies(train: list[_Finding], test: list[_Finding], n_compared: int) -> Iterable[Problem]:
    """Copies, by where the two images lie: those of two labels or across train and test spoil figures."""
    findings = [*train, *test]
    items: dict[tuple[Severity, str], list[str]] = {}
    duplicates = duplicates_of([finding.fingerprint for finding in findings], n_compared)
    for pair in duplicates.pairs:
        one, other = findings[pair.first].sample, findings[pair.second].sample
        exact = pair.kind == "exact"
        if exact and one.label != other.label:
            place: tuple[Severity, str] = (
                "error",
                "{images are|image is} labeled normal and anomalous, pixel for pixel the same",
            )
        elif pair.first < len(train) <= pair.second:
            place = (
                ("error" if exact else "warning"),
                (
                    "test {images are|image is} in the training set too, pixel for pixel"
                    if exact
                    else "test {images are near copies|image is a near copy} of training images"
                ),
            )
        else:
            where = "training" if pair.second < len(train) else "test"
            kinds = "copies|image is a copy" if exact else "near copies|image is a near copy"
            place = "warning", f"{where} {{images are {kinds}}} of others, and count once"
        items.setdefault(place, []).append(f"{one.path} = {other.path}")
    for (severity, message), pairs in items.items():
        yield Problem(severity, in_number(len(pairs), message), tuple(pairs))
    for doubt in duplicates.doubts():
        yield Problem("warning", doubt)


def _split_problems(category: Category) -> Iterable[Problem]:
    normal = len(category.train)
    if normal < FEW_NORMAL_IMAGES:
        yield Problem(
            "warning", f"only {number_of(normal, 'normal image')} to fit: expected {FEW_NORMAL_IMAGES} or more"
        )
    labels = {sample.label for sample in category.test}
    for label, name in ((0, "normal"), (1, "anomalous")):
        if label not in labels:
            yield Problem("warning", f"the test has no {name} image: AUROC and the like are undefined")
    counts = [sum(sample.label == label for sample in category.test) for label in (0, 1)]
    if 0 < min(counts) < FEW_TEST_IMAGES:
        least = LEVEL ** (1 / min(counts))
        yield Problem(
            "warning",
            f"only {counts[0]} normal and {counts[1]} anomalous test images: even without a mistake the 95 % interval "
            f"of AUROC is {least:.2f} to 1; expected {FEW_TEST_IMAGES} or more of each",
        )


def _stray_masks(category: Category) -> list[str]:
    """Files in the ``ground_truth`` beside ``test`` that no sample uses, but for masks of normal images."""
    used = {mask for sample in category.test for mask in sample.masks}
    folders = {
        Path(*sample.path.parts[: -position - 1], "ground_truth")
        for sample in category.test
        for position, name in enumerate(reversed(sample.path.parts))
        if name == "test"
    }
    bare: dict[str, set[str]] = {}
    for sample in category.test:
        if sample.label and not sample.masks:
            bare.setdefault(sample.kind, set()).add(sample.path.stem)
    return [
        _stray(path, bare.get(path.relative_to(folder).parts[0], set()))
        for folder in sorted(folders)
        for path in images_below(folder)
        if path not in used and not is_normal_kind(path.relative_to(folder).parts[0])
    ]


def _stray(mask: Path, stems: set[str]) -> str:
    stem = name_of_owner(mask, stems)
    return f"{mask} (call the mask of {stem} {stem}_mask{mask.suffix})" if stem is not None else str(mask)


def _kinds(samples: Iterable[Sample]) -> dict[str, int]:
    return dict(sorted(Counter(sample.kind for sample in samples).items()))
