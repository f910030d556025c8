"""Whether an adapted backbone serves PaDiM better: tried on held-out normal images with defects drawn into them.

The defects are those of the synthetic data set (scratches, cracks, stains, holes, dislocations) and not the pieces that
adapting is done with. No test image is looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.data.synthetic.canvas import Rendering
from padim_zoo.data.synthetic.defects import SURFACE_DEFECTS, Severity
from padim_zoo.data.synthetic.scene import visible_change
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.metrics import METRICS, evaluate
from padim_zoo.metrics.metric import main_metrics

MOST_IMAGES = 20
"""Held-out images that defects are drawn into, at most; each gets one of every kind."""
MOST_NORMAL = 200
"""Normal images that PaDiM is fitted on, at most."""
SMALLEST = 0.0005
"""Share of the image that a defect must visibly change, or it is drawn again, plainer."""
TRIES = 8


@dataclass(frozen=True)
class Comparison:
    """What adapting has changed.

    Attributes
    ----------
    before, after : dict of str to float
        The main metrics of pixels and regions, by name, so far as they are defined on images that all have a defect;
        NaN where no defect could be seen.
    defects : int
        How many were drawn.
    """

    before: dict[str, float]
    after: dict[str, float]
    defects: int

    @property
    def helped(self) -> bool:
        """Whether the metrics have become better, taken together."""
        return sum(METRICS[name].sign * (value - self.before[name]) for name, value in self.after.items()) > 0


def evaluate_adaptation(
    before: Backbone, after: Backbone, images: Tensor, used: np.ndarray, held_out: np.ndarray, seed: int
) -> Comparison:
    """PaDiM, with its default settings, on both backbones.

    Parameters
    ----------
    before, after : Backbone
    images : Tensor (n, 3, H, W), uint8
    used, held_out : ndarray of int64
        Indices of the images to fit on, and of those to draw defects into.
    seed : int
        Of the defects.
    """
    defective, masks = draw_defects(images, held_out[:MOST_IMAGES], seed)
    names = [name for name in main_metrics() if METRICS[name].needs_masks]
    if not masks:
        undefined = dict.fromkeys(names, math.nan)
        return Comparison(undefined, undefined, 0)
    normal = _pixels(images[torch.from_numpy(used[:MOST_NORMAL])])
    values = []
    for backbone in (before, after):
        where: dict[str, Any] = {"device": str(backbone.device), "precision": backbone.precision}
        prediction = PaDiM(backbone, seed=seed, resize=None, crop=None, **where).fit(normal).predict(defective)
        labels = np.ones(len(defective), dtype=np.int64)
        result = evaluate(labels, prediction.scores, prediction.maps, masks)
        # What needs normal images too is undefined: all images have a defect.
        values.append({name: result.values[name] for name in names if not math.isnan(result.values[name])})
    return Comparison(values[0], values[1], len(masks))


def draw_defects(images: Tensor, indices: np.ndarray, seed: int) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """One defect of each kind in each of some images.

    Returns
    -------
    defective : ndarray (m, H, W, 3), uint8
    masks : list of ndarray (H, W), bool
        What changed visibly; a defect that does not show, on black say, is left out.
    """
    defective, masks = [], []
    for index in indices:
        clean = _pixels(images[int(index)][None])[0]
        for number, kind in enumerate(SURFACE_DEFECTS):
            rng = np.random.default_rng((seed, int(index), number))
            image, mask = _draw(clean, kind, rng)
            if mask.any():
                defective.append(image)
                masks.append(mask)
    return np.stack(defective) if defective else np.empty((0, *images.shape[2:], 3), np.uint8), list(masks)


def _draw(clean: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A defect in a square window of the image, as large as there is room for."""
    rows, columns = clean.shape[:2]
    side = min(rows, columns)
    image, mask = clean.copy(), np.zeros((rows, columns), dtype=bool)
    severity = Severity(0.35, 1.0)
    for _ in range(TRIES):
        top, left = int(rng.integers(rows - side + 1)), int(rng.integers(columns - side + 1))
        window = np.s_[top : top + side, left : left + side]
        below = clean[window].astype(np.float32) / 255
        drawn = SURFACE_DEFECTS[kind](Rendering(below, np.ones((side, side), np.float32)), rng, severity).clip(0, 1)
        changed = visible_change(below, drawn)
        if changed.mean() >= SMALLEST:
            image[window], mask[window] = np.round(255 * drawn).astype(np.uint8), changed
            break
        severity = severity.plainer()
    return image, mask


def _pixels(images: Tensor) -> np.ndarray:
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
