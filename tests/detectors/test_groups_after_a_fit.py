"""Groups and adapted images go on with ``partial_fit`` and ``merge``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_zoo import InputError, PaDiM, load
from padim_zoo.backbones.weight_provenance import hashes_of
from padim_zoo.data.image_groups import ImageGroups
from padim_zoo.detectors.image_facts import ImageFacts
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.patchcore import PatchCore

IMAGES = np.random.default_rng(0).integers(80, 160, (12, 40, 40, 3), dtype=np.uint8)
OPTIONS = {"resize": None, "crop": None, "precision": "float32"}


def literal_groups(links: list[tuple[int, int]], n: int) -> list[int]:
    """Numbers of linked items, spread until nothing changes."""
    numbers = list(range(n))
    for _ in range(n):
        for one, other in links:
            numbers[one] = numbers[other] = min(numbers[one], numbers[other])
    firsts = sorted(set(numbers))
    return [firsts.index(number) for number in numbers]


def test_groups_of_later_images_follow_those_of_the_fit():
    detector = PaDiM(**OPTIONS).fit(IMAGES[:4])
    assert detector.calibrate(groups=np.array([0, 0, 1, 1])).n_groups == 2
    detector.partial_fit(IMAGES[2:8], groups=np.array([5, 5, 6, 6, 7, 7]))
    assert detector.calibrate().groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    detector.partial_fit(IMAGES[8:9])
    assert detector.calibrate().groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    with pytest.raises(InputError, match="3 groups of 2 images"):
        detector.partial_fit(IMAGES[9:11], groups=np.arange(3))
    learned = detector.learned_images_
    assert (learned.n, len(learned.hashes), len(learned.groups.numbers)) == (9, 9, 9)
    assert detector.calibration_ is not None
    detector.fit(IMAGES[:4])
    assert detector.learned_images_.groups is None
    assert detector.calibrate().n_groups == 4


def test_a_loaded_coreset_keeps_groups_of_all_its_images(tmp_path: Path):
    detector = PatchCore(**OPTIONS).fit(IMAGES[:4])
    detector.calibrate(groups=np.array([0, 0, 1, 1]))
    detector.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors").partial_fit(IMAGES[4:6])
    again.save(tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").learned_images_.groups.numbers.tolist() == [0, 0, 1, 1, 2, 3]


def test_joined_groups_are_the_literal_ones():
    random = np.random.default_rng(0)
    for _ in range(100):
        parts = [
            ImageGroups(random.integers(0, 4, n), random.integers(0, 3, n), "pattern") for n in random.integers(1, 7, 2)
        ]
        numbers = [(part, int(number)) for part, groups in enumerate(parts) for number in groups.numbers]
        names = [int(name) for groups in parts for name in groups.names]
        n = len(names)
        links = [
            (i, j)
            for i in range(n)
            for j in range(i)
            if numbers[i] == numbers[j] or (names[i] and names[i] == names[j])
        ]
        assert parts[0].followed_by(parts[1]).numbers.tolist() == literal_groups(links, n)


@pytest.mark.parametrize(("first", "adapted"), [(6, 5), (4, 5), (0, 3)], ids=["apart", "overlap", "all known"])
def test_a_merge_keeps_how_many_images_weights_were_adapted_to(first, adapted):
    one, other = PaDiM(**OPTIONS).fit(IMAGES[:6]), PaDiM(**OPTIONS).fit(IMAGES[first : first + 6])
    one.learned_images_ = replace(one.learned_images_, adapted=3)
    other.learned_images_ = replace(other.learned_images_, adapted=2)
    if first < 6:
        with pytest.warns(UserWarning, match="new of 6"):
            one.merge(other)
    else:
        one.merge(other)
    assert one.learned_images_.adapted == adapted
    with pytest.warns(UserWarning, match="out of sample"):
        assert one.calibrate().adapted == adapted


@pytest.mark.parametrize("kind", [PaDiM, PatchCore])
@pytest.mark.parametrize("loaded", [False, True])
def test_later_images_that_weights_were_adapted_to_are_counted(kind, loaded, tmp_path: Path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for image, path in zip(IMAGES, paths, strict=False):
        Image.fromarray(image).save(path)
    detector = kind(**OPTIONS)
    detector.extractor.in_use.adapted_to = frozenset(hashes_of(paths[2:5]))
    detector.fit(paths[:3])
    if loaded:
        detector.save(tmp_path / "m.safetensors")
        detector = load(tmp_path / "m.safetensors")
    assert detector.learned_images_.adapted == 1
    assert detector.partial_fit(paths).learned_images_.adapted == 3


def test_nothing_of_a_fit_before_is_left():
    detector = PaDiM(**OPTIONS, register="translation").fit(IMAGES)
    detector.learned_images_ = replace(detector.learned_images_, adapted=3)
    other = PaDiM(**OPTIONS).fit(IMAGES)
    detector.set_params(register=None)
    assert detector.learned_images_.adapted == 0
    detector = PaDiM(**OPTIONS, tta="flip").fit(IMAGES)
    detector.learned_images_ = replace(detector.learned_images_, adapted=3)
    detector.extractor.facts = ImageFacts(registration=object())
    detector.from_gaussian(other.reduction_, other.gaussian_, other.image_size_)
    assert detector.other_views is None
    assert detector.extractor.facts == ImageFacts()
    assert detector.learned_images_ == LearnedImages()
