"""What adapting a backbone gives, whichever way it was done.

It is written as a weights file, which ``--weights`` takes; the header says how it was made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

import padim_zoo
from padim_zoo.backbones.backbone import Backbone, hash_of
from padim_zoo.backbones.weight_provenance import ADAPTED_TO, HEADER, hashes_of
from padim_zoo.core.atomic_write import write_whole
from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import Category, Sample
from padim_zoo.data.transform import Transform
from padim_zoo.finetune.evaluation import Comparison

FEWEST_IMAGES = 4
"""Fewer tell nothing."""


@dataclass(frozen=True)
class Adaptation:
    """An adapted backbone.

    Attributes
    ----------
    state : dict of str to Tensor
        Its tensors under the names of a weights file.
    used, held_out : ndarray of int64
        Indices of the images that were learned from, and of those that were not.
    report : dict
        What was done and how it went, in JSON's types.
    """

    state: dict[str, Tensor]
    used: np.ndarray
    held_out: np.ndarray
    report: dict[str, Any]

    @property
    def seen(self) -> np.ndarray:
        """Indices of the images that had a part in it: held-out ones too where these chose the epoch."""
        return np.union1d(self.used, self.held_out) if "best_epoch" in self.report else self.used


def hold_out(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut images in two.

    Parameters
    ----------
    count : int
    share : float
        Of the images held out: at least one, at most half of them.
    seed : int

    Returns
    -------
    used, held_out : ndarray of int64
        Indices, sorted.

    Raises
    ------
    InputError
        If there are fewer images than :data:`FEWEST_IMAGES`.
    """
    if count < FEWEST_IMAGES:
        raise InputError(
            f"{count} normal images are too few to learn from and hold some out: expected at least {FEWEST_IMAGES}, "
            "better 50"
        )
    order = np.random.default_rng(seed).permutation(count)
    out = min(count // 2, max(1, round(share * count)))
    return np.sort(order[out:]), np.sort(order[:out])


def write_weights(
    path: str | Path,
    adaptation: Adaptation,
    *,
    backbone: Backbone,
    transform: Transform,
    paths: Sequence[Path],
    left_out: Sequence[Path] = (),
    comparison: Comparison,
) -> dict[str, Any]:
    """Write an adapted backbone's weights, whole or not at all.

    Parameters
    ----------
    path : path
        Usually ``….safetensors``.
    adaptation : Adaptation
    backbone : Backbone
        What was adapted.
    transform : Transform
        Of the images.
    paths : sequence of Path
        Their files.
    left_out : sequence of Path
        Files that cannot be read, if they were left out.
    comparison : Comparison
        What it was found to be worth.

    Returns
    -------
    dict
        What the header says.
    """
    document = {
        "backbone": backbone.name,
        "layers": list(backbone.layers),
        "source": Path(backbone.weights_source).name,
        "source_hash": backbone.weights_hash,
        "weights_hash": hash_of(adaptation.state),
        **adaptation.report,
        "precision": backbone.precision,
        "transform": transform.to_dict(),
        "images": len(adaptation.used),
        "held_out_images": len(adaptation.held_out),
        "data_fingerprint": Category("", "", tuple(Sample(path, 0) for path in paths), ()).fingerprint(),
        **({"left_out": [path.name for path in left_out]} if left_out else {}),
        ADAPTED_TO: hashes_of([paths[index] for index in adaptation.seen]),
        "evaluation": asdict(comparison),
        "padim_zoo": padim_zoo.__version__,
        "torch": torch.__version__,
    }
    metadata = {HEADER: json.dumps(document)}  # one entry: the order of several is not fixed
    write_whole(path, lambda temporary: save_file(adaptation.state, temporary, metadata=metadata))
    return document
