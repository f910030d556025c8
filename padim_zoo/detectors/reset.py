"""What of a detector rests on which parameter: a change of one drops that, and no more."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from padim_zoo.core.errors import InputError
from padim_zoo.detectors.image_facts import ImageFacts
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.samples import Samples

if TYPE_CHECKING:
    from padim_zoo.detectors.backbone_detector import BackboneDetector

HARMLESS = frozenset({"batch_size", "memory", "stream", "cache", "runtime"})
"""Parameters on which nothing rests."""

OF_THRESHOLD = frozenset({"score", "map_values", "tta"})
"""Parameters on which the threshold rests, but nothing that was fitted."""

OF_BACKBONE = frozenset({"backbone", "weights", "layers", "device", "precision"})


def reset_fit(detector: BackboneDetector[Any], changed: Collection[str]) -> None:
    """Drop what rests on parameters that have changed.

    Parameters in the detector's ``scoring`` drop the threshold, those in its ``modeling`` the model too, which is made
    anew from the statistics of the images. All others drop the fit.
    """
    if "runtime" in changed:
        detector.extractor.in_use.change_runtime(detector.config)
    changed = set(changed) - HARMLESS
    if changed:
        detector.calibration_ = None
    if "tta" in changed:
        detector.other_views = None
    changed -= OF_THRESHOLD | detector.scoring
    if changed & detector.modeling and detector.made_model is not None:
        detector.statistics_ = detector.statistics_ or _statistics_if_there(detector)
        detector.made_model = None
    if changed - detector.modeling:
        drop_fit(detector)


def drop_fit(detector: BackboneDetector[Any]) -> None:
    """Become a detector that was never fitted."""
    detector.made_model = detector.statistics_ = detector.other_views = detector.calibration_ = None
    detector.fitted_in = detector.fitted_by = None
    detector.learned_images_, detector.region_per_image, detector.several_sizes = LearnedImages(), False, False
    detector.extractor.facts, detector.extractor.canvas = ImageFacts(), None


def _statistics_if_there(detector: BackboneDetector[Any]) -> Samples | Moments | None:
    try:
        return detector.require_statistics("make another model")
    except InputError:
        return None
