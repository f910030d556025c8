"""The transform of a suite or a command: what was asked for, what the data set declares, or the detectors' default.

And what the runs of a benchmark looked at, in a line for each transform.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from padim_zoo.bench.readers import PROTOCOL
from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.store import Document
from padim_zoo.data.coverage import other_aspects, percent
from padim_zoo.data.grid import look_ahead
from padim_zoo.data.sample import Category, Dataset, protocol_of
from padim_zoo.data.transform import Transform, choose_grid, count_other_aspects
from padim_zoo.detectors.config import PaDiMConfig

STRIDE = 32
"""Of detectors that do not tell their strides: the coarsest one of the usual networks, in pixels."""


def resolve_transform(resize: Any, crop: Any, dataset: Dataset | None = None) -> Transform:
    """The transform that settings stand for; its grid may be left to the images.

    Either setting replaces the protocol as a whole: half of it would be neither the one nor the other.

    Parameters
    ----------
    resize, crop
        Values, or :data:`~padim_zoo.bench.readers.PROTOCOL`.
    dataset : Dataset, optional
        Its protocol holds where neither is given.
    """
    protocol = None if dataset is None else protocol_of(dataset)
    if protocol is not None and resize == crop == PROTOCOL:
        return protocol
    return Transform(
        PaDiMConfig.resize if resize == PROTOCOL else resize, PaDiMConfig.crop if crop == PROTOCOL else crop
    )


class CategoryGrid:
    """The grids of one category, chosen by all of its normal images, however many a run fits on.

    Parameters
    ----------
    category : Category
    """

    def __init__(self, category: Category) -> None:
        self.category = category
        self._sizes: list[tuple[int, int]] | None = None
        self._grids: dict[tuple[tuple[int, int], int], None] = {}

    def applied(self, config: RunConfig, stride: int) -> RunConfig:
        """The configuration with its grid, where that is left to the images."""
        resize = config.resize
        if not isinstance(resize, int) or config.crop is not None:
            return config
        if self._sizes is None:
            self._sizes, _ = look_ahead(self.category.train)
        grid = choose_grid(self._sizes, resize, stride)
        self._grids[grid, stride] = None
        return config.replace(resize=grid)

    def notes(self) -> Iterator[str]:
        """What is to be said of images of other aspects."""
        sizes: Sequence[tuple[int, int]] = ()
        for number, (grid, stride) in enumerate(self._grids):
            if number == 0:
                sizes, _ = look_ahead((*self.category.train, *self.category.test))
            count = count_other_aspects(sizes, grid, stride)
            if count:
                yield f"{self.category.name}: {other_aspects(count, len(sizes), Transform(grid, None))}"


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
