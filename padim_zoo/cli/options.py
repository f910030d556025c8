"""What commands share beside settings: images and runs that they read, pictures and models that they write."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import is_out_of_memory
from padim_zoo.core.numbers import number_of
from padim_zoo.detectors.description import parts_of, unpromised

if TYPE_CHECKING:
    import numpy as np

    from padim_zoo.bench.store import Document, RunStore
    from padim_zoo.data.sample import Category, Dataset
    from padim_zoo.detectors.prediction import Prediction


class _NamedPath(click.Path):
    """A path that is not empty: an empty one, as of a variable that is not set, would be the folder at hand."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Make a path of it, or say which option or argument is empty."""
        if not str(value):
            assert param is not None
            name = max(param.opts, key=len) if isinstance(param, click.Option) else (param.name or "").upper()
            raise InputError(f"{name} is empty: expected a path")
        return super().convert(value, param, ctx)


PATH = _NamedPath(path_type=Path)
"""The type of arguments and options that are files or folders."""

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
        raise InputError(
            f"{name} has {len(categories)} categories: choose one with --category, of {', '.join(categories)}"
        )
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


def comma_separated(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Callback of an option that takes several names."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


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


def predict_in(detector: Any, roi: Path | None) -> Callable[[Any], Prediction]:
    """The ``predict`` of a detector, within a region of interest if there is one; its masks are opened once.

    Raises
    ------
    InputError
        If there is no such mask or folder, or the detector takes none.
    """
    predict = functools.partial(_predict_or_say_why, detector)
    if roi is None:
        return predict
    from padim_zoo.data.roi import RegionOfInterest

    if "roi" not in inspect.signature(detector.predict).parameters:
        raise InputError(f"{type(detector).__name__} takes no region of interest: leave out --roi")
    if getattr(detector, "register", None) is not None:  # before the first image, and not of each
        from padim_zoo.detectors.aligning_extractor import NO_ROI

        raise InputError(NO_ROI)
    return functools.partial(predict, roi=RegionOfInterest(roi))


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
                f"the model scores no image ({reason}): its file was changed, or written by another version; fit it "
                "again"
            ) from error
        raise


def output_option(text: str) -> Callable[[Any], Any]:
    """The option ``--output``, which has to be given."""
    return click.option("-o", "--output", type=PATH, required=True, help=text)


def new_model_options(text: str = "The new model.") -> Callable[[Any], Any]:
    """The options ``--output`` and ``--in-place`` of a command that changes a model."""

    def decorate(function: Any) -> Any:
        function = click.option("--in-place", is_flag=True, help="Replace MODEL.")(function)
        return click.option("-o", "--output", type=PATH, metavar="FILE", help=text)(function)

    return decorate


def target_of(model: Path, output: Path | None, in_place: bool) -> Path:
    """The file that a command writes which changes a model: another one, or with ``--in-place`` the same.

    Raises
    ------
    InputError
        If it is neither or both, or ``--output`` is the model or a folder.
    """
    if in_place and output is not None:
        raise InputError("--output and --in-place exclude each other: give one of them")
    if in_place:
        return model
    if output is None:
        raise InputError(f"no file to write: give --output FILE, or --in-place to replace {model}")
    if output.exists() and model.exists() and output.samefile(model):
        raise InputError(f"--output {output} is the model itself: give another file, or --in-place to replace it")
    check_target(output)
    return output


def hold(target: Path) -> None:
    """Lock a model that is replaced until the command ends.

    Raises
    ------
    InputError
        If another process holds it.
    """
    from padim_zoo.core.file_lock import FileLock

    lock = FileLock(target)
    if target.is_file() and not lock.take():
        raise InputError(f"{target} is being updated by another process: wait for it, and update again")
    click.get_current_context().call_on_close(lock.release)


def check_target(output: Path, example: str = "model.safetensors", option: str = "--output") -> None:
    """Refuse before the work what cannot be written after it: a folder, or a file in what is none.

    Raises
    ------
    InputError
        If it is one.
    """
    if output.is_dir():
        raise InputError(f"{option} {output} is a folder: expected a file name, e.g. {output / example}")
    nearest = next(folder for folder in output.absolute().parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise InputError(f"{option} {output} cannot be: {nearest} is a file; expected a folder to write to")


def refuse_same(files: Mapping[str, Path | None], images: Iterable[Path] = ()) -> None:
    """Refuse files of a command of which one would overwrite another, or an image that it reads.

    Raises
    ------
    InputError
        If two are the same file.
    """
    names = {os.path.realpath(image): "an image that is read" for image in images}
    for name, path in files.items():
        if path is not None and (other := names.setdefault(os.path.realpath(path), name)) != name:
            raise InputError(f"{name} {path} is the same file as {other}: expected a file of its own")


def try_to_calibrate(detector: Any, asked: float | None, usual: float | None = None, **options: Any) -> str:
    """Set the threshold, and say why there is none, if so; for a false-alarm rate that was asked for there has to be.

    Raises
    ------
    InputError
        If there is no threshold for the rate that was asked for.
    """
    try:
        detector.calibrate(false_alarm_rate=usual if asked is None else asked, **options)
    except InputError as error:
        if asked is not None:
            raise
        return str(error)
    return ""


def named_groups(detector: Any, paths: Sequence[Path], pattern: str | None) -> np.ndarray:
    """The groups (n,), int64, that a pattern names; without one, each image is one.

    Raises
    ------
    InputError
        If a pattern is given to a detector that takes no groups, or does not match.
    """
    import numpy as np

    from padim_zoo.data.duplicates import groups_by_pattern

    if pattern is None:
        return np.arange(len(paths))
    if not _takes_groups(detector):
        raise InputError(f"{type(detector).__name__} takes no groups for its threshold: leave out --groups")
    return groups_by_pattern(paths, pattern)


def _takes_groups(detector: Any) -> bool:
    return "groups" in inspect.signature(detector.calibrate).parameters


def groups_of_images(detector: Any, paths: Sequence[Path], pattern: str | None) -> tuple[dict[str, Any], list[str]]:
    """The groups of normal images as an option of :func:`try_to_calibrate`, none for a detector that takes none.

    And notes of copies that may have been missed, where no pattern names them.
    """
    from padim_zoo.data.duplicates import find_duplicates, groups_of

    if not _takes_groups(detector):
        return {}, []
    kept = detector.fingerprints
    notes = [] if pattern is not None else find_duplicates(paths, kept).doubts()
    return {"groups": groups_of(paths, pattern, kept)}, notes


def remember_names(detector: Any, paths: Sequence[Path], pattern: str | None) -> None:
    """Have a fitted detector keep which group a pattern names for each image, for ``update`` and ``merge``."""
    from padim_zoo.data.image_groups import ImageGroups

    if pattern is not None and _takes_groups(detector):
        groups = ImageGroups.of(paths, pattern, detector.fingerprints)
        detector.learned_images_ = detector.learned_images_.with_groups(groups)


def groups_of_new_images(detector: Any, paths: Sequence[Path]) -> dict[str, Any]:
    """The groups of more normal images as an option of ``partial_fit``, by the pattern that the detector keeps."""
    from padim_zoo.data.image_groups import ImageGroups

    if "groups" not in inspect.signature(detector.partial_fit).parameters:
        return {}
    groups = detector.learned_images_.all_groups
    return {"groups": ImageGroups.of(paths, groups.pattern, detector.fingerprints)}


def different_images(n: int, n_groups: int) -> str:
    """The number of images, and of different ones where some are copies."""
    return number_of(n, "image") if n == n_groups else f"{n_groups} different of {number_of(n, 'image')}"


def threshold_of(calibration: Any) -> str:
    """A threshold and the rate that it promises, and whether it is the least, which was not asked for."""
    from padim_zoo.detectors.config import FALSE_ALARM_RATE

    rate = calibration.false_alarm_rate
    if rate is None:
        return f"{calibration.threshold:.4g}, set by hand"
    least = ""
    if not calibration.rate_asked and rate > FALSE_ALARM_RATE:
        count = different_images(len(calibration.scores), calibration.n_groups)
        least = f" (the least that {count} can promise)"
    return f"{calibration.threshold:.4g}, for a false-alarm rate of at most {rate:.3g}{least}"


def regions_of(calibration: Any) -> dict[str, str]:
    """The rows on the region threshold, if there is one, and on which threshold decides."""
    rows = {}
    if calibration.region_threshold is not None:
        rows["regions"] = (
            f"above {calibration.region_threshold:.4g}, for a rate of at most {calibration.region_rate:.3g}, from "
            f"{number_of(calibration.region_area, 'pixel')} of the map"
        )
    return rows | {"decides": calibration.decides}


def show_prices(calibration: Any) -> None:
    """Print what other false-alarm rates would give, where the threshold rests on scores."""
    from padim_zoo.cli.table import show_table

    if not (rows := price_rows(calibration)):
        return
    count = different_images(len(calibration.scores), calibration.n_groups)
    click.echo(f"\nThe threshold rests on {count}. Other rates would give:\n")
    show_table(rows)
    if (note := unpromised(calibration)) is not None:
        click.echo(f"note: {note}")


def price_rows(calibration: Any) -> list[dict[str, Any]]:
    """The threshold that each false-alarm rate would give, for :func:`~padim_zoo.cli.table.show_table`."""
    return [
        {"false-alarm rate": f"{rate:.3g}", "threshold": threshold}
        for rate, threshold in calibration.thresholds().items()
    ]


def show_rows(rows: dict[str, str]) -> None:
    """Print text behind titles of at most ten letters."""
    for title, text in rows.items():
        click.echo(f"{title:<10} {text}")


def size_of(path: Path) -> str:
    """A file and its size."""
    return f"{path}, {path.stat().st_size / 1e6:.1f} MB"
