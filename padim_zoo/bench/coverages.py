"""What the runs of a benchmark looked at, in a line for each transform."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from padim_zoo.bench.store import Document
from padim_zoo.data.coverage import percent
from padim_zoo.data.transform import Transform


def coverage_lines(documents: Iterable[Document]) -> list[str]:
    """The transforms, what they look at of the test images, and where the least of the annotated area is left."""
    of_categories: dict[Transform, dict[str, dict[str, Any]]] = defaultdict(dict)
    for document in documents:
        seen = document.get("coverage")
        if seen and seen["image_share"] is not None:
            resize, crop = (tuple(size) if isinstance(size, list) else size for size in (seen["resize"], seen["crop"]))
            of_categories[Transform(resize, crop)][str(document["config"]["category"])] = seen
    return [_line(transform, seen) for transform, seen in of_categories.items()]


def _line(transform: Transform, seen: dict[str, dict[str, Any]]) -> str:
    text = f"{transform}: looks at {percent(fmean(one['image_share'] for one in seen.values()))} of each image"
    marked = {name: one["annotated_share"] for name, one in seen.items() if one["annotated_share"] is not None}
    if not marked:
        return text
    least = min(marked, key=lambda name: marked[name])
    where = (
        f", least in {least}: {percent(marked[least])}" if percent(marked[least]) != "all" and len(marked) > 1 else ""
    )
    return f"{text} and {percent(fmean(marked.values()))} of the annotated area{where}"
