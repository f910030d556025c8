"""The weights file of an adapted backbone: what ``--weights`` takes, and how it was made in its header."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import padim_zoo
from padim_zoo.backbones.backbone import Backbone, hash_of
from padim_zoo.backbones.weight_provenance import ADAPTED_TO, HEADER, hashes_of
from padim_zoo.core.atomic_write import write_whole
from padim_zoo.data.sample import Category, Sample
from padim_zoo.data.transform import Transform
from padim_zoo.finetune.adaptation import Adaptation
from padim_zoo.finetune.evaluation import Comparison


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
