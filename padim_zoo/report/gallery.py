"""The galleries of a run store, as a page carries them: every picture once, and no more of them than fit."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from padim_zoo.bench.gallery import PER_REASON, PICTURES, Gallery, Shown
from padim_zoo.bench.status import is_done
from padim_zoo.bench.store import DamagedRunError, Document, RunStore

BUDGET = 6_500_000
"""Characters that the pictures of a page may take: with the charts' code it stays under 10 MB."""

_OLD = "This run kept no pictures: it was made with --no-gallery, or by an older version."
_FULL = "The pictures of this run are left out: the page would be too large. Make a page of fewer runs to see them."


@dataclass
class Pictures:
    """What goes into the page.

    Attributes
    ----------
    by_run : dict of str to dict
        The gallery of a run by its id, as JSON holds it; items name their pictures by keys of ``pictures``.
    without : dict of str to str
        Why a run has none, by its id.
    pictures : dict of str to str
        Data URIs.
    problems : list of str
        One line for each file that cannot be read.
    """

    by_run: dict[str, dict[str, Any]] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, run_id: str, gallery: Gallery) -> None:
        """Take a gallery in."""
        shown = {name: value for name, value in asdict(gallery).items() if name not in PICTURES}
        for item in shown["items"]:
            for kind in PICTURES:
                content = getattr(gallery, kind).get(item["index"])
                item[kind.removesuffix("s")] = None if content is None else self._add_picture(content)
        self.by_run[run_id] = shown

    def _add_picture(self, content: bytes) -> str:
        key = hashlib.sha256(content).hexdigest()[:16]
        if key not in self.pictures:
            self.pictures[key] = f"data:{_media_type(content)};base64,{base64.b64encode(content).decode()}"
        return key


def collect(store: RunStore, documents: Sequence[Document], per_reason: int = PER_REASON) -> Pictures:
    """The galleries of all runs that are done, with as many images of each kind as :data:`BUDGET` allows.

    Where even one image of each kind is too much, the first runs come first, and the others go without.

    Parameters
    ----------
    store : RunStore
    documents : sequence of dict
        The runs, the most interesting first.
    per_reason : int
        Images of each kind at most; 0 for none at all.
    """
    collected = Pictures()
    galleries: dict[str, Gallery] = {}
    for document in documents:
        run_id = document["id"]
        if not is_done(document):
            continue
        try:
            arrays = store.gallery(run_id)
            if arrays is None:
                collected.without[run_id] = _OLD
            else:
                galleries[run_id] = Gallery.from_arrays(arrays)
        except (DamagedRunError, ValueError, KeyError, TypeError) as error:
            collected.problems.append(f"the gallery of run {run_id} cannot be read ({error}): the page does without")
            collected.without[run_id] = "The pictures of this run cannot be read."
    if not per_reason:
        collected.without |= dict.fromkeys(galleries, "This page was made without pictures.")
        return collected
    number = per_reason
    while number > 1 and _characters(galleries, number) > BUDGET:
        number -= 1
    for run_id, gallery in galleries.items():
        before = dict(collected.pictures)
        collected.add(run_id, thinned(gallery, number))
        if sum(map(len, collected.pictures.values())) > BUDGET:
            collected.pictures = before
            del collected.by_run[run_id]
            collected.without[run_id] = _FULL
    return collected


def thinned(gallery: Gallery, per_reason: int) -> Gallery:
    """A gallery with the first few images of each kind."""
    seen: Counter[str] = Counter()
    items: list[Shown] = []
    for item in gallery.items:
        reasons = tuple(reason for reason in item.reasons if seen[reason] < per_reason)
        seen.update(item.reasons)
        if reasons:
            items.append(replace(item, reasons=reasons))
    return replace(gallery, items=items)


def _characters(galleries: Mapping[str, Gallery], per_reason: int) -> int:
    """Size of all pictures in base64, equal ones counted once."""
    contents: set[bytes] = set()
    for gallery in galleries.values():
        for item in thinned(gallery, per_reason).items:
            pictures = (getattr(gallery, kind).get(item.index) for kind in PICTURES)
            contents.update(content for content in pictures if content is not None)
    return sum(4 * len(content) // 3 + 64 for content in contents)


def _media_type(content: bytes) -> str:
    if content.startswith(b"RIFF"):
        return "image/webp"
    return "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
