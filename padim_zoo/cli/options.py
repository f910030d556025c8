"""What commands share beside settings: a category of a data set, pictures, a region of interest."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.core.errors import InputError
from padim_zoo.pictures.kinds import PICTURES

if TYPE_CHECKING:
    from padim_zoo.data.sample import Category
    from padim_zoo.detectors.prediction import Prediction
    from padim_zoo.report.picture_folder import PictureFolder


DATASET = ("dataset", "data_root", "category", "normal", "abnormal", "masks")
"""The settings that name one category of a data set."""


def load_category(settings: dict[str, Any]) -> Category:
    """List the category that settings name, which need not be named where there is only one.

    Raises
    ------
    InputError
        If the data set or the category is unknown, or one has to be chosen.
    """
    from padim_zoo.registry import datasets

    name = settings["dataset"]
    folders = {kind: settings[kind] for kind in ("normal", "abnormal", "masks") if settings[kind] is not None}
    dataset = datasets.create(name, root=settings["data_root"], **folders)
    if settings["category"] is not None:
        return dataset.load(settings["category"])
    categories = dataset.categories()
    if len(categories) != 1:
        raise InputError(
            f"{name} has {len(categories)} categories: choose one with --category, of {', '.join(categories)}"
        )
    return dataset.load(categories[0])


def _picture_kinds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(comma_separated(ctx, parameter, value) or ()))
    for kind in kinds:
        if kind not in PICTURES:
            raise click.BadParameter(f"{kind!r} is no kind of picture: expected some of {', '.join(PICTURES)}")
    return kinds


@dataclass(frozen=True)
class PictureChoice:
    """What the options of :func:`picture_options` say."""

    kinds: tuple[str, ...] = ()
    alpha: float = 0.9
    colormap: str = "ember"

    def folder(self, detector: Any, model: Path, output: Path, threshold: float | None) -> PictureFolder | None:
        """Where the pictures go, if any are asked for; see :func:`padim_zoo.report.picture_folder.picture_folder`."""
        if not self.kinds:
            return None
        from padim_zoo.report.picture_folder import picture_folder

        return picture_folder(
            detector, model, output, kinds=self.kinds, alpha=self.alpha, colormap=self.colormap, threshold=threshold
        )


def picture_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the pictures to draw; the command gets them as one :class:`PictureChoice`."""

    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        pictures = PictureChoice(options.pop("pictures"), options.pop("alpha"), options.pop("colormap"))
        return function(*arguments, pictures=pictures, **options)

    for option in (
        click.option(
            "--colormap",
            metavar="NAME",
            default=PictureChoice.colormap,
            show_default=True,
            help="Colormap of heat maps; padim-zoo[report] adds matplotlib's, e.g. viridis.",
        ),
        click.option(
            "--alpha",
            type=click.FloatRange(0, 1),
            default=PictureChoice.alpha,
            show_default=True,
            help="Opacity of the hottest pixels of overlays.",
        ),
        click.option(
            "--pictures",
            metavar="KINDS",
            callback=_picture_kinds,
            help=f"Pictures to write to --output, comma-separated: {', '.join(PICTURES)}.",
        ),
    ):
        command = option(command)
    return command


def pixels(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Callback of an option that takes a size: N, HEIGHTxWIDTH or ``none``."""
    from padim_zoo.data.transform import parse_size

    return None if value is None else parse_size(value)


def comma_separated(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Callback of an option that takes several names."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


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
        if size is None:
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
