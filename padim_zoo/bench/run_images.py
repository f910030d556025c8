"""Which images of a category a run fits and scores: none is in both, and a run may ask for some of them.

``--contaminate`` moves defects among the images to fit: it shows what a model is worth where nobody checked them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from padim_zoo.bench.run import Run, RunConfig
from padim_zoo.bench.timed_fit import Extracted
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.data.duplicates import find_duplicates
from padim_zoo.data.sample import Category, Sample


def without_learned(category: Category, caches: Caches) -> tuple[Category, list[str]]:
    """A category without the test images that have the pixels of images to fit, and a note of how many.

    Anomalous ones are left out where a copy was moved among the images to fit. Pixels under two labels are refused
    elsewhere.

    Raises
    ------
    InputError
        If no normal test image is left.
    """
    n, samples = len(category.train), (*category.train, *category.test)
    copies = [pair for pair in find_duplicates(samples, caches.fingerprints, n).crossing(n) if pair.kind == "exact"]
    learned = {pair.second - n for pair in copies if samples[pair.first].label == samples[pair.second].label}
    if not learned:
        return category, []
    test = tuple(sample for index, sample in enumerate(category.test) if index not in learned)
    normal = sum(not category.test[index].label for index in learned)
    if normal and all(sample.label for sample in test):
        raise InputError(
            f"all {normal} normal test images of {category.name} have the pixels of images to fit: expected "
            "others, which no run has seen; set some aside before the fit (test/good)"
        )
    note = f"{len(learned)} of {len(category.test)} test images have the pixels of images to fit and are left out"
    return replace(category, test=test), [note]


def drawn_images(train: Sequence[Sample], run: Run) -> np.ndarray:
    """The images that a run may fit; sorted.

    That is as many normal ones as it asks for, the first of a shuffle by its seed, and all defects that stand behind.
    """
    labels = np.array([sample.label for sample in train])
    order = np.random.default_rng(run.config.seed).permutation(np.flatnonzero(labels == 0))
    return np.sort(np.concatenate([order[: run.config.train_size], np.flatnonzero(labels)]))


def features_drawn(extracted: Extracted, run: Run, images: np.ndarray) -> Extracted:
    """The features of the images that a run may see."""
    if run.config.train_size is None:
        return extracted
    train = extracted.train
    features = train.features.images(images)
    return extracted._replace(train=replace(train, features=features, cached=min(train.cached, len(features))))


def count_of_defects(category: Category, share: float, train_size: int | None = None) -> int:
    """The number of anomalous images that make this share of the images to fit, beside the normal ones.

    Raises
    ------
    InputError
        If that is none, or more than half of the anomalous test images.
    """
    n = train_size or len(category.train)
    defects = sum(sample.label for sample in category.test)
    count = round(share / (1 - share) * n)
    if not count:
        raise InputError(
            f"contaminate is {share:g}: that is no image beside {n} normal ones of {category.name}; expected "
            f"{1 / (n + 1):.2g} or more"
        )
    if 2 * count > defects:
        raise InputError(
            f"contaminate is {share:g}: beside {n} normal images of {category.name} that takes {count} of {defects} "
            f"anomalous test images; expected at most half of them ({defects // 2})"
        )
    return count


def contaminate(category: Category, config: RunConfig) -> Category:
    """The category of a run: anomalous test images, drawn by its seed, stand behind its normal images.

    They keep their label. A larger share takes the same images and more.
    """
    if config.contaminated is None:
        return category
    count = count_of_defects(category, config.contaminated, config.train_size)
    defects = [index for index, sample in enumerate(category.test) if sample.label]
    order = np.random.default_rng(config.seed).permutation(len(defects))
    moved = sorted(defects[number] for number in order[:count])
    test = tuple(sample for index, sample in enumerate(category.test) if index not in moved)
    return replace(category, train=(*category.train, *(category.test[index] for index in moved)), test=test)
