"""Images that a detector has learned already: an evaluation leaves them out, and a merge counts them once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.data.duplicates import MOST_IMAGES, count_compared, find_duplicates
from padim_zoo.data.image_hashes import are_learned
from padim_zoo.data.sample import Sample
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.features.features import rows_of
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

Statistics = Samples | Moments


class Disjoint(NamedTuple):
    """Statistics of two detectors that have no image in common.

    Attributes
    ----------
    mine : Samples or Moments
    theirs : Samples, Moments or None
        None if all their images are among mine.
    images : ndarray (n,), int64
        Which these are, of all of mine and, behind them, all of theirs.
    """

    mine: Statistics
    theirs: Statistics | None
    images: np.ndarray


def without_overlap(
    mine: Statistics,
    theirs: Statistics,
    learned: tuple[LearnedImages, LearnedImages],
    passes: int,
) -> Disjoint:
    """Take the images of both out of the samples of either.

    Parameters
    ----------
    mine, theirs : Samples or Moments
    learned : (LearnedImages, LearnedImages)
        The images of each, in the order of its samples.
    passes : int
        How many samples an image has, where these are kept.

    Raises
    ------
    InputError
        If there are such images, and both are moments, of which none can be taken out.
    """
    own, others = learned[0].hashes, learned[1].hashes
    n, count = learned[0].n, learned[1].n
    if own is None or others is None:
        return Disjoint(mine, theirs, np.arange(n + count))
    new = ~np.isin(others, own)
    if new.all():
        return Disjoint(mine, theirs, np.arange(n + count))
    warnings.warn(f"{new.sum()} new of {count} normal images: the others count once", stacklevel=4)
    if not new.any():
        return Disjoint(mine, None, np.arange(n))
    if isinstance(theirs, Samples):
        images = np.concatenate([np.arange(n), n + np.flatnonzero(new)])
        return Disjoint(mine, _some(theirs, new, passes), images)
    if isinstance(mine, Moments):
        raise InputError(
            f"{count - new.sum()} of {count} images were fitted on in both, and moments cannot be told apart: fit on "
            "parts without common images"
        )
    rest = ~np.isin(own, others)
    if not rest.any():
        return Disjoint(theirs, None, n + np.arange(count))
    return Disjoint(_some(mine, rest, passes), theirs, np.concatenate([np.flatnonzero(rest), n + np.arange(count)]))


def _some(samples: Samples, images: np.ndarray, passes: int) -> Samples:
    return Samples(samples.embeddings.images(rows_of(np.flatnonzero(images), passes)))


class NewSamples(NamedTuple):
    """The test images that a detector has not learned.

    Attributes
    ----------
    samples : list of Sample
    positions : ndarray (m,), int64
        Where they stand among all.
    left_out : int
        How many others there are.
    notes : list of str
        What a reader of figures should know.
    """

    samples: list[Sample]
    positions: np.ndarray
    left_out: int
    notes: list[str]


def new_samples(detector: Detector, samples: Sequence[Sample]) -> NewSamples:
    """Leave out the test images that a detector has learned: it knows them by their pixels.

    Raises
    ------
    InputError
        If no normal image is left.
    """
    hashes = detector.learned_images_.hashes
    if hashes is None:
        note = "the model does not say which images it has learned: test images may be among them"
        return NewSamples(list(samples), np.arange(len(samples)), 0, [note])
    kept = detector.fingerprints
    learned = are_learned(samples, hashes, detector.transform.bit_depth, kept)
    positions = np.flatnonzero(~learned)
    new = [samples[position] for position in positions.tolist()]
    left_out = len(samples) - len(new)
    if not left_out:
        return NewSamples(new, positions, 0, [])
    normal = [not sample.label for sample in samples]
    if not new or (any(normal) and all(sample.label for sample in new)):
        raise InputError(
            f"the model has learned all {sum(normal)} normal test images: expected others, which it has not seen; "
            "set some aside before the fit (test/good)"
        )
    notes = [f"{left_out} of {len(samples)} test images are left out: the model has learned them"]
    defects = left_out - sum(normal) + sum(not sample.label for sample in new)
    if defects:
        notes.append(f"{defects} of these are labeled anomalous: the model has learned defects as normal")
    return NewSamples(new, positions, left_out, notes)


def count_near_copies(
    detector: Detector, train: Sequence[Sample], samples: Sequence[Sample]
) -> tuple[int | None, str | None]:
    """How many test images are near copies, such as frames of one burst, of images that a detector has learned.

    A model holds hashes of its images and not the images. So it takes the files: of ``train``, those count that the
    detector has learned. All files are decoded, unless their fingerprints are kept.

    Parameters
    ----------
    detector : Detector
    train, samples : sequence of Sample
        Images that may have been learned, and test images that were not.

    Returns
    -------
    count : int or None
        None where it is not known.
    note : str or None
        Why it is not known, or what such images do to figures.
    """
    hashes, n = detector.learned_images_.hashes, len(train)
    unknown = "near copies of learned images are not looked for: "
    if hashes is None:
        return None, f"{unknown}the model does not say which images it has learned"
    if not count_compared(n + len(samples)):
        return None, f"{unknown}there are more than {MOST_IMAGES} images"
    learned = are_learned(train, hashes, detector.transform.bit_depth, detector.fingerprints)
    if not learned.any():
        return None, f"{unknown}none of them is among the training images of the data set"
    duplicates = find_duplicates((*train, *samples), detector.fingerprints)
    groups = duplicates.groups
    copied = {int(groups[pair.second]) for pair in duplicates.crossing(n)}
    of_learned = copied & set(groups[:n][learned].tolist())
    count = int(np.isin(groups[n:], list(of_learned)).sum())
    if not count:
        return 0, None
    told = f"{count} of {len(samples)} test images are near copies of images that the model has learned"
    return count, f"{told}: its figures may be too good"
