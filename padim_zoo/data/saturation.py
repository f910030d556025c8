"""Saturation thresholds of MVTec LOCO AD: how much of a defect must be found until it counts as covered.

``CATEGORY/defects_config.json`` lists the kinds of defect. Each mask file marks one defect, and the value of its marked
pixels names the kind. A threshold is a share of the defect's area, or a number of pixels of the stored mask. Either
way it becomes a share here, which holds after any resize.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.data.decoding import picture_of
from padim_zoo.data.opening import open_image
from padim_zoo.data.sample import Sample

CONFIG_FILE = "defects_config.json"


def saturation_shares(samples: Sequence[Sample], masks: Sequence[np.ndarray | None]) -> list[np.ndarray | None] | None:
    """The share of its area at which each region of some samples counts as covered.

    Parameters
    ----------
    samples : sequence of N Sample
    masks : sequence of N (ndarray (H, W) or None)
        Their masks, as :func:`padim_zoo.data.ground_truth.masks` gives them: region k is the k-th mask file of its
        sample that marks anything.

    Returns
    -------
    list of N (ndarray (K,), float64, or None), or None
        None for an image without such a file, or whose mask is not one of labels. None for all if there is none.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks the kind of a defect.
    """
    configs = [_config_of(sample) for sample in samples]
    if not any(configs):
        return None
    return [
        _shares(sample, config) if config and mask is not None and np.issubdtype(mask.dtype, np.signedinteger) else None
        for sample, config, mask in zip(samples, configs, masks, strict=True)
    ]


def _config_of(sample: Sample) -> Path | None:
    """The file in the folder of the category: masks are ``CATEGORY/ground_truth/KIND/STEM/*.png``."""
    if not sample.masks or sample.masks[0].parent.name != sample.path.stem or len(sample.masks[0].parents) < 4:
        return None
    path = sample.masks[0].parents[3] / CONFIG_FILE
    return path if _exists(path) else None


@cache
def _exists(path: Path) -> bool:
    return path.is_file()


def _shares(sample: Sample, config: Path) -> np.ndarray:
    kinds = read_defects_config(config)
    shares = []
    for path in sample.masks:
        picture = picture_of(open_image(path), str(path))
        pixels = np.atleast_3d(picture.samples if picture.palette is None else picture.palette)[..., 0]
        value, area = int(pixels.max(initial=0)), int((pixels > 0).sum())
        if not area:
            continue
        if value not in kinds:
            raise InputError(f"{config} lists no defect with the pixel value {value} of {path}: expected one that does")
        threshold, relative = kinds[value]
        # As get_saturation_area of the authors' code: whole pixels, and no more than there are. Where it comes to none,
        # any pixel is enough, as after their division by zero.
        saturated = int(threshold * area) if relative else min(int(threshold), area)
        shares.append(max(saturated, 1) / area)
    return np.array(shares)


def read_defects_config(path: Path) -> dict[int, tuple[float, bool]]:
    """Saturation threshold of each pixel value, and whether it is a share of the defect's area.

    Raises
    ------
    InputError
        If it is not a list of defects as MVTec LOCO AD has it.
    """
    try:
        return {
            int(kind["pixel_value"]): (float(kind["saturation_threshold"]), bool(kind["relative_saturation"]))
            for kind in read_json(path.read_text(encoding="utf-8"))
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"cannot read {path} ({type(error).__name__}: {error}): expected a list of defects, each with pixel_value, "
            "saturation_threshold and relative_saturation"
        ) from None
