"""What an exported file says of itself, one JSON document within it.

It holds a digest, which covers every byte of the file but its own. So a file that changed on its way is refused instead
of giving other scores. It is no signature: whoever can write the file can write the digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

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
            raise InputError(f"{path} has no metadata of padim-zoo: expected a file of padim-zoo export") from None
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


Content: TypeAlias = bytes | bytearray | memoryview

_SEAL = re.compile(rb"sha256:[0-9a-f]{64}")


def seal(content: bytes, others: Iterable[Content] = ()) -> bytes:
    """Put the digest of a file, and of ``others`` beside it, in the place that :data:`UNSEALED` holds."""
    start = content.rindex(UNSEALED.encode())
    return b"".join([content[:start], _digest(content, start, others), content[start + len(UNSEALED) :]])


def is_sealed(content: bytes, others: Iterable[Content] = ()) -> bool:
    """Whether the last digest in a file is that of the file, and of ``others`` beside it."""
    start = content.rfind(b"sha256:")
    found = _SEAL.match(content, max(start, 0))
    return found is not None and found[0] == _digest(content, start, others)


def _digest(content: bytes, start: int, others: Iterable[Content]) -> bytes:
    whole, view = hashlib.sha256(), memoryview(content)
    for part in (view[:start], UNSEALED.encode(), view[start + len(UNSEALED) :], *others):
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return b"sha256:" + whole.hexdigest().encode()


def records_of(archive: zipfile.ZipFile) -> tuple[bytes, Iterator[Content]]:
    """The metadata of a torch archive, and names and contents of all other records, in an order of their own."""
    records = {name.partition("/")[2]: name for name in archive.namelist()}
    own = next((name for name in records if name.endswith(f"/{KEY}")), None)
    others = (part for name in sorted(records) if name != own for part in (name.encode(), archive.read(records[name])))
    return archive.read(records[own]) if own else b"", others
