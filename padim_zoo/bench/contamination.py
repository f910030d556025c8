"""Defects among the images to fit: what a model is worth where nobody checked the normal images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from padim_zoo.bench.run import RunConfig
from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import Category


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
