"""``padim-zoo export``: a saved detector to one network for ONNX Runtime, OpenVINO or torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.options import MODEL, PATH, check_target
from padim_zoo.cli.settings import setting_command
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.description import coverage_of
from padim_zoo.export.suffixes import SUFFIXES


def _height_and_width(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    from padim_zoo.data.transform import parse_size

    if value is None:
        return None
    size = parse_size(value)
    if size is None:
        raise InputError("--input-size none: expected N or HEIGHTxWIDTH; leave it out for images after the transform")
    return (size, size) if isinstance(size, int) else size


@setting_command("export")
@click.argument("model", type=MODEL)
@click.option("--format", "form", type=click.Choice(list(SUFFIXES)), required=True)
@click.option("-o", "--output", type=PATH, help="The file.  [default: MODEL with the suffix of the format]")
@click.option(
    "--images", multiple=True, metavar="PATH", help="Images to test the file on; repeatable.  [default: synthetic]"
)
@click.option(
    "--input-size",
    callback=_height_and_width,
    metavar="N|HxW",
    help="Include resize and crop, for images of this size.  [default: images are resized and cropped already]",
)
@click.option("--threshold", type=float, help="Threshold to export instead of the model's own.")
def export(
    model: Path,
    form: str,
    output: Path | None,
    images: tuple[str, ...],
    threshold: float | None,
    precision: str | None,
    input_size: tuple[int, int] | None,
) -> None:
    """Export a saved detector to one network: uint8 RGB images in; scores, maps and decisions out.

    The file is tested before it is written: its scores and maps must agree with the model's to a relative difference of
    0.001 (0.05 with a backbone in bfloat16). OpenVINO needs two files, FILE.xml and FILE.bin.
    """
    from padim_zoo.data.files import image_files

    target = output or model.with_suffix(SUFFIXES[form])
    check_target(target, f"model{SUFFIXES[form]}")
    paths = image_files(images) if images else None
    from padim_zoo.detectors.loading import load
    from padim_zoo.export.exporting import export as write

    detector: Any = load(model, device="cpu")
    if threshold is not None:
        detector.threshold_ = threshold
    done = write(detector, target, form, precision=precision, input_size=input_size, images=paths)
    difference = done.difference
    maps = "" if difference.maps is None else f", maps by {difference.maps:.1e}"
    tried = f"{difference.images} {'' if images else 'drawn '}images"
    click.echo(f"{' and '.join(str(file) for file in done.files)}: {done.size / 1e6:.1f} MB")
    click.echo(
        f"against {model} on {tried}: scores differ by at most {difference.scores:.1e}{maps}, "
        f"relative; {difference.decisions} decisions differ"
    )
    click.echo(_seen(detector, paths or [], input_size))
    if detector.takes_sizes and input_size is None:
        height, width = detector.image_size_
        click.echo(
            f"Note: the model takes images of several sizes, and the file those of {height}x{width} only"
            f"{', which has room for all of the fit' if detector.several_sizes else ''}: for others give --input-size",
            err=True,
        )
    if done.note is not None:
        click.echo(f"Note: {done.note}", err=True)


def _seen(detector: Any, paths: list[Path], size: tuple[int, int] | None) -> str:
    """The transform, and what it looks at: of the images given, or of those of the input size."""
    if paths:
        return str(coverage_of(detector, paths))
    from padim_zoo.data.coverage import percent

    transform = detector.transform
    if size is None and transform.crop is not None:
        return f"{transform}: the crop leaves out a part of each image; --images or --input-size tell how much"
    share = 1.0 if size is None else transform.visible_share(*size)
    return f"{transform}: looks at {percent(share)} of each image"
