"""The contract of data sets, as checks."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.data.image import image_size, read_image
from padim_zoo.data.mask import read_mask
from padim_zoo.data.sample import Category, Dataset, Sample
from padim_zoo.testing.contract import Registered, checks_of, create, in_one_line, refusal, run_checks


@dataclass(frozen=True)
class Subject(Registered[Dataset]):
    """A data set under test."""

    @cached_property
    def loaded(self) -> list[Category]:
        """All categories that can be loaded."""
        loaded = []
        for name in self.made.categories():
            with suppress(Exception):  # told by the check of the categories
                loaded.append(self.made.load(name))
        return [category for category in loaded if isinstance(category, Category)]


def check_dataset(name: str, **options: Any) -> None:
    """Check that a registered data set keeps the contract.

    Parameters
    ----------
    name : str
        A registered name.
    **options
        Arguments of its factory: usually ``root``, a folder with a small copy of the data set.

    Raises
    ------
    ContractError
        Naming everything that is wrong.
    InputError
        If the name is not registered.
    """
    dataset = create(registry.datasets, name, None, **options)
    run_checks(f"the dataset {name!r}", Subject(registry.datasets, name, dataset, options), checks_of(__name__))


# -- the checks: what each yields is one line for each thing that is wrong -------------------------------------------


def names(subject: Subject) -> Iterator[str]:
    """It bears its registered name, and lists the names of its categories, sorted."""
    dataset = subject.made
    if getattr(dataset, "name", None) != subject.name:
        yield f"its name is {getattr(dataset, 'name', None)!r}: expected the registered one, {subject.name!r}"
    yield from subject.listing()
    listed = dataset.categories()
    if not isinstance(listed, list) or not listed or not all(isinstance(each, str) and each for each in listed):
        yield f"categories() gives {listed!r}: expected a list of at least one name"
    elif listed != sorted(set(listed)):
        yield f"categories() gives {', '.join(listed)}: expected sorted names, none of them twice"


def categories(subject: Subject) -> Iterator[str]:
    """Each category loads as what it is asked for, with normal images to fit and something to test."""
    for name in subject.made.categories():
        try:
            category = subject.made.load(name)
        except Exception as error:
            yield f"{name} cannot be loaded: {in_one_line(error)}"
            continue
        if not isinstance(category, Category):
            yield f"load({name!r}) gives a {type(category).__name__}: expected a padim_zoo.data.sample.Category"
            continue
        if (category.dataset, category.name) != (subject.made.name, name):
            yield f"load({name!r}) gives {category.dataset}/{category.name}: expected {subject.made.name}/{name}"
        for split, samples in (("train", category.train), ("test", category.test)):
            if not isinstance(samples, tuple) or not all(isinstance(sample, Sample) for sample in samples):
                yield f"{split} of {name} is not a tuple of Sample objects"
            elif not samples:
                yield f"{split} of {name} is empty: expected at least one image"


def labels(subject: Subject) -> Iterator[str]:
    """Only normal images to fit; 0 and "good" for these, 1 and the kind of defect for anomalous ones."""
    for category in subject.loaded:
        wrong = [sample for sample in category.train if sample.label != 0]
        if wrong:
            yield (
                f"{category.name} has {len(wrong)} images to fit that are labeled anomalous, e.g. {wrong[0].path}: "
                "expected normal ones only"
            )
        for sample in (*category.train, *category.test):
            if sample.label not in (0, 1):
                yield f"{sample.path} has the label {sample.label!r}: expected 0 (normal) or 1 (anomalous)"
            elif (sample.kind == "good") == (sample.label == 1) or not sample.kind:
                expected = "the kind of defect" if sample.label else "'good'"
                yield f"{sample.path}, labeled {sample.label}, is of the kind {sample.kind!r}: expected {expected}"
            if sample.masks and not sample.label:
                yield f"the normal image {sample.path} has a mask: expected none"


def splits(subject: Subject) -> Iterator[str]:
    """No image is listed twice, above all not to fit and to test."""
    for category in subject.loaded:
        train, test = ([sample.path.resolve() for sample in part] for part in (category.train, category.test))
        both = set(train) & set(test)
        if both:
            yield (
                f"{category.name} has {len(both)} images both to fit and to test, e.g. {min(both)}: figures on them "
                "would mean nothing"
            )
        twice = [path for path, count in Counter([*train, *test]).items() if count > 1 and path not in both]
        if twice:
            yield f"{category.name} lists {len(twice)} images twice, e.g. {twice[0]}"


def files(subject: Subject) -> Iterator[str]:
    """Images and masks exist, can be read, and fit each other."""
    for category in subject.loaded:
        sample: Any
        for sample in (*category.train, *category.test):
            if not isinstance(sample.path, Path):
                yield f"the path {sample.path!r} is a {type(sample.path).__name__}: expected a pathlib.Path"
                continue
            if not sample.path.is_absolute():
                yield f"the path {sample.path} is not absolute: it would mean another file in another folder"
            try:
                read_image(sample.path)
            except InputError as error:
                yield str(error)
                continue
            if not sample.masks:
                continue
            try:
                mask = read_mask(sample.masks, image_size(sample.path), sample.path)
            except InputError as error:
                yield str(error)
            else:
                if not mask.any():
                    yield f"the mask of {sample.path} marks no pixel: expected the anomalous ones"


def determinism(subject: Subject) -> Iterator[str]:
    """Made and loaded again it is the same, in the same order, and so its identity."""
    again = subject.make()
    if again.categories() != subject.made.categories():
        yield "made again it has other categories, or in another order"
        return
    for category in subject.loaded:
        if again.load(category.name) != category:
            yield f"loaded again {category.name} has other samples, or in another order: sort what folders list"
        elif again.load(category.name).fingerprint() != category.fingerprint():
            yield f"loaded again {category.name} has another fingerprint: do its files change?"


def bad_input(subject: Subject) -> Iterator[str]:
    """What does not exist is refused in words."""
    yield from refusal(lambda: subject.made.load("no such category"), "load of a category that does not exist")
    yield from refusal(lambda: subject.make(no_such_argument=1), "an unknown argument")
    if "root" not in subject.options:
        return
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty"
        empty.mkdir()
        for what, root in (
            ("without root", None),
            ("root=PATH of a folder that does not exist", Path(folder) / "missing"),
            ("root=PATH of an empty folder", empty),
        ):
            # A data set may make itself, as the synthetic one does.
            yield from refusal(lambda root: _first_of(subject.make(root=root)), what, root, must_raise=False)
    root = subject.options["root"]
    if root is not None:
        one, other = (subject.make(root=kind(root)) for kind in (str, Path))
        if one.categories() != other.categories():
            yield "root as text and as a Path give other categories"


def _first_of(dataset: Any) -> Any:
    names = dataset.categories()
    if not names:
        raise AssertionError("the data set has no categories and does not say why")
    return dataset.load(names[0])
