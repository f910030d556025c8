"""What commands read: a category of a data set, runs, and a saved detector that is to score images."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.core.environment_variables import environment_set
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import is_out_of_memory
from padim_zoo.detectors.description import parts_of
from padim_zoo.runtimes.runtime import VARIABLE

if TYPE_CHECKING:
    from padim_zoo.bench.store import Document, RunStore
    from padim_zoo.data.roi import RegionOfInterest
    from padim_zoo.data.sample import Category, Dataset
    from padim_zoo.detectors.prediction import Prediction

DATASET = ("dataset", "data_root", "category", "normal", "abnormal", "masks")
"""The settings that name one category of a data set."""


def load_category(settings: dict[str, Any]) -> tuple[Dataset, Category]:
    """Open the data set and list the category that settings name, which need not be named where there is only one.

    Raises
    ------
    InputError
        If the data set or the category is unknown, or one has to be chosen.
    """
    from padim_zoo.cache.usual import usual_fingerprints
    from padim_zoo.registry import datasets

    name = settings["dataset"]
    folders = {kind: settings[kind] for kind in ("normal", "abnormal", "masks") if settings[kind] is not None}
    if name == "folder" and settings["cache"]:
        folders["fingerprints"] = usual_fingerprints
    dataset = datasets.create(name, root=settings["data_root"], **folders)
    categories = dataset.categories() if settings["category"] is None else [settings["category"]]
    if len(categories) != 1:
        raise InputError(f"{name} has {len(categories)} categories: choose --category, one of {', '.join(categories)}")
    category = dataset.load(categories[0])
    if settings.get("skip_unreadable"):
        from padim_zoo.data.unreadable import readable_category

        category = readable_category(category)
    category.warn()
    return dataset, category


def read_runs(folder: Path) -> tuple[RunStore, list[Document]]:
    """A run store and its documents; files that are none are told of.

    Raises
    ------
    InputError
        If there is no run.
    """
    from padim_zoo.bench.store import RunStore

    store = RunStore(folder)
    contents = store.read_some()
    for problem in contents.problems:
        click.echo(f"Warning: {problem}", err=True)
    return store, contents.documents


def load_detector(
    model: Path,
    *,
    device: str,
    batch_size: int,
    memory: int | None,
    stream: str | int,
    runtime: str | None,
    cache: bool = False,
    writes: bool = True,
) -> Any:
    """A saved detector that works within a memory, and uses the cache, if it is to."""
    from padim_zoo.cache.caches import Caches
    from padim_zoo.detectors.loading import load

    # Within it a detector has the runtime that is asked for already, and no other is looked for.
    with environment_set({VARIABLE: runtime} if runtime is not None else {}):
        detector = load(model, device=device, batch_size=batch_size)
    for part in parts_of(detector):
        limits = {"memory": memory, "stream": stream, "runtime": runtime}
        part.set_params(**{name: value for name, value in limits.items() if name in part.get_params(deep=False)})
    if cache:
        detector.cache = Caches.usual(writes=writes)
    return detector


def expect(detector: Any, images: int) -> None:
    """Tell a detector how many images will come."""
    if hasattr(detector, "expect"):  # no exported one has
        detector.expect(images)


def open_roi(roi: Path | None) -> RegionOfInterest | None:
    """A region of interest, opened once and without torch.

    Raises
    ------
    InputError
        If there is no such mask or folder.
    """
    if roi is None:
        return None
    from padim_zoo.data.roi import RegionOfInterest

    return RegionOfInterest(roi)


def predict_in(detector: Any, region: RegionOfInterest | None) -> Callable[[Any], Prediction]:
    """The ``predict`` of a detector, within a region of interest if there is one.

    Raises
    ------
    InputError
        If there is one, and the detector takes none.
    """
    predict = functools.partial(_predict_or_say_why, detector)
    if region is None:
        return predict
    if "roi" not in inspect.signature(detector.predict).parameters:
        raise InputError(f"{type(detector).__name__} takes no region of interest: leave out --roi")
    if getattr(detector, "register", None) is not None:  # before the first image, and not of each
        from padim_zoo.detectors.aligning_extractor import NO_ROI

        raise InputError(NO_ROI)
    return functools.partial(predict, roi=region)


def _predict_or_say_why(detector: Any, images: Any, **options: Any) -> Prediction:
    """Score images; where that fails and a plain gray image fails too, the model is at fault."""
    try:
        prediction: Prediction = detector.predict(images, **options)
        return prediction
    except (InputError, OSError):
        raise
    except Exception as error:
        size = getattr(detector, "image_size_", None)
        if size is None or is_out_of_memory(error):
            raise
        import numpy as np

        try:
            resize, crop = detector.transform.resize, detector.transform.crop
            shape = size if resize is None and crop is None else (2 * max(size), 2 * max(size))
            detector.predict([np.full((*shape, 3), 128, dtype=np.uint8)])
        except Exception:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise InputError(
                f"the model cannot score images ({reason}): its file was changed, or is of another version; fit again"
            ) from error
        raise
