"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import parse_bytes
from padim_zoo.pictures.kinds import PICTURES

if TYPE_CHECKING:
    from padim_zoo.data.sample import Category
    from padim_zoo.detectors.detector import Prediction
    from padim_zoo.report.picture_folder import PictureFolder


def _load_plugins(ctx: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    if paths:
        from padim_zoo.registry import load_plugin

        for path in paths:
            load_plugin(path)
    return paths


plugin_option = click.option(
    "--plugin",
    "plugins",
    metavar="FILE",
    type=click.Path(path_type=Path),
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_load_plugins,
    help="Python file that registers backbones, estimators, detectors or datasets; repeatable.",
)


@dataclass(frozen=True)
class DatasetChoice:
    """What the options of :func:`dataset_options` say."""

    dataset: str = "folder"
    data_root: Path | None = None
    category: str | None = None
    normal: Path | None = None
    abnormal: Path | None = None
    masks: Path | None = None

    def load(self) -> Category:
        """List the chosen category, which need not be named where there is only one.

        Raises
        ------
        InputError
            If the data set or the category is unknown, or one has to be chosen.
        """
        from padim_zoo.registry import datasets

        folders = {"normal": self.normal, "abnormal": self.abnormal, "masks": self.masks}
        given = {name: folder for name, folder in folders.items() if folder is not None}
        dataset = datasets.create(self.dataset, root=self.data_root, **given)
        if self.category is not None:
            return dataset.load(self.category)
        known = dataset.categories()
        if len(known) != 1:
            raise InputError(
                f"{self.dataset} has {len(known)} categories: choose one with --category, of {', '.join(known)}"
            )
        return dataset.load(known[0])


def dataset_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that name one category of a data set; the command gets them as one :class:`DatasetChoice`."""

    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        chosen = {field.name: options.pop(field.name) for field in fields(DatasetChoice)}
        return function(*arguments, source=DatasetChoice(**chosen), **options)

    folder = click.Path(path_type=Path)
    for option in (
        click.option("--masks", type=folder, metavar="DIR", help="Masks, named as the images in --abnormal."),
        click.option("--abnormal", type=folder, metavar="DIR", help="Anomalous images; subfolders name the defects."),
        click.option("--normal", type=folder, metavar="DIR", help="Instead of --data-root: a folder of normal images."),
        click.option("--category", help="Category of the data set; may be left out where there is only one."),
        click.option("--data-root", type=folder, metavar="DIR", help="Folder of the data set."),
        click.option("--dataset", default="folder", show_default=True, help="padim-zoo list datasets."),
    ):
        command = option(command)
    return command


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
        chosen = PictureChoice(options.pop("pictures"), options.pop("alpha"), options.pop("colormap"))
        return function(*arguments, pictures=chosen, **options)

    for option in (
        click.option(
            "--colormap",
            metavar="NAME",
            default=PictureChoice.colormap,
            show_default=True,
            help="Colors of heat maps; all of matplotlib's do, e.g. viridis, with padim-zoo[report].",
        ),
        click.option(
            "--alpha",
            type=click.FloatRange(0, 1),
            default=PictureChoice.alpha,
            show_default=True,
            help="Opacity of overlays where they are hottest.",
        ),
        click.option(
            "--pictures",
            metavar="KINDS",
            callback=_picture_kinds,
            help=f"Pictures to write into --output, comma-separated: {', '.join(PICTURES)}.",
        ),
    ):
        command = option(command)
    return command


def pixels(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Callback of an option that takes a size: N, HEIGHTxWIDTH or ``none``."""
    from padim_zoo.data.transform import parse_size

    return None if value is None else parse_size(value)


def amount_of_memory(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Callback of an option that takes bytes: ``4GB``, ``500MB``, ``4e9``."""
    return None if value is None else parse_bytes("--memory", value, least=1)


def comma_separated(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Callback of an option that takes several names."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


cache_option = click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep features and resized images on disk for the next time: padim-zoo cache info.",
)

roi_option = click.option(
    "--roi",
    type=click.Path(path_type=Path),
    metavar="MASK|DIR",
    help="Pixels that count, beside the model's own: a mask for all images, or a folder of masks.",
)


def region_given(detector: Any, roi: Path | None) -> Callable[[Any], Prediction]:
    """The ``predict`` of a detector, within a region of interest if one is given; its masks are opened once.

    Raises
    ------
    InputError
        If there is no such mask or folder, or the detector takes none.
    """
    predict: Callable[..., Prediction] = detector.predict
    if roi is None:
        return predict
    from padim_zoo.data.roi import RegionOfInterest

    if "roi" not in inspect.signature(predict).parameters:
        raise InputError(f"{type(detector).__name__} takes no region of interest: leave out --roi")
    return functools.partial(predict, roi=RegionOfInterest(roi))
