"""What an exported file says of itself, one JSON document within it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import FieldError, Fields, is_finite, read_json
from padim_zoo.data.transform import Transform

FORMAT = 3
KEY = "padim_zoo"
"""Under which a file holds its metadata."""

UNSEALED = "sha256:" + 64 * "0"
"""What the metadata hold in place of the digest of the file until that is known."""


def to_text(document: dict[str, Any]) -> str:
    """Metadata as a file holds them, with a place for the digest."""
    return json.dumps({**document, "digest": UNSEALED}, sort_keys=True, allow_nan=False)


@dataclass(frozen=True)
class Metadata:
    """The metadata of a file, each field of its type and in its range.

    Attributes
    ----------
    document : dict
        All of them.
    transform : Transform
    includes_transform : bool
        Whether the network resizes and crops.
    input_size : (int, int)
        Height and width of the images that the network takes.
    threshold : float or None
    makes_maps, score_is_map_maximum : bool
    map_scale : (float or None, float or None)
        Scores of a typical normal pixel, and of one in 1,000.
    region_threshold : float or None
    region_area : int
        Pixels of the map that a region has, at least.
    """

    document: dict[str, Any]
    transform: Transform
    includes_transform: bool
    input_size: tuple[int, int]
    threshold: float | None
    makes_maps: bool
    score_is_map_maximum: bool
    map_scale: tuple[float | None, float | None]
    region_threshold: float | None
    region_area: int

    @classmethod
    def parse(cls, path: Path, text: str | None) -> Metadata:
        """The metadata that a file holds.

        Raises
        ------
        InputError
            If there are none, or they are of another format, or a field is amiss.
        """
        try:
            fields = Fields(read_json(text))
            number = fields.whole("format")
        except FieldError:
            raise InputError(
                f"{path} holds no metadata of padim-zoo: expected a file that padim-zoo export wrote"
            ) from None
        if number != FORMAT:
            raise InputError(f"{path} has format {number}, this version reads {FORMAT}: export the model again")
        try:
            return cls._of(fields)
        except (FieldError, InputError, TypeError) as error:
            raise InputError(f"the metadata of {path} are damaged ({error}): export the model again") from None

    @classmethod
    def _of(cls, fields: Fields) -> Metadata:
        transform, scale = fields.fields("transform"), fields.array("map_scale")
        if len(scale) != 2 or not all(value is None or is_finite(value) for value in scale):
            raise FieldError(f"map_scale is {str(scale)[:40]}: expected two finite numbers")
        return cls(
            dict(fields.values),
            Transform.from_dict(transform.values),
            fields.flag("includes_transform"),
            fields.sizes("input_size"),
            fields.or_none("threshold", fields.number),
            fields.flag("makes_maps"),
            fields.flag("score_is_map_maximum"),
            (scale[0], scale[1]),
            fields.or_none("region_threshold", fields.number),
            fields.whole("region_area"),
        )
