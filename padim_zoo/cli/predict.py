"""``padim-zoo predict``: a saved detector and images to scores, maps and pictures."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.candidates import complete_files
from padim_zoo.cli.options import PATH, blocks_of, coverage_of, load_detector, predict_in
from padim_zoo.cli.settings import setting_command
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import is_out_of_memory
from padim_zoo.core.printable import printable, without_formula
from padim_zoo.pictures.kinds import PictureChoice

if TYPE_CHECKING:
    import numpy as np

    from padim_zoo.detectors.prediction import Prediction

SOME_FAILED = 1
"""Exit code when some images could not be scored."""


@dataclass(frozen=True)
class Row:
    """What is written of one image."""

    path: str
    score: float | None = None
    threshold: float | None = None
    anomalous: bool | None = None
    error: str | None = None


@setting_command("predict")
@click.argument("model", type=PATH)
@click.argument("images", nargs=-1, shell_complete=complete_files, required=True)
@click.option("-o", "--output", type=PATH, help="Folder for scores, maps and pictures.")
@click.option("--scores", metavar="FILE|-", help="Where to write the scores.  [default: scores.csv in --output, or -]")
@click.option(
    "--format", "form", type=click.Choice(["csv", "json"]), help="Format of the scores.  [default: by FILE, or csv]"
)
@click.option("--maps", type=click.Choice(["npy"]), help="Write anomaly maps to --output.")
@click.option("--threshold", type=float, help="Threshold to use instead of the model's own.")
@click.option(
    "--runtime",
    type=click.Choice(["torch", "onnx", "openvino"]),
    help="Runtime of an exported MODEL.  [default: by its suffix]",
)
def predict(
    model: Path,
    images: tuple[str, ...],
    output: Path | None,
    scores: str | None,
    form: str | None,
    maps: str | None,
    pictures: tuple[str, ...],
    alpha: float,
    colormap: str,
    roi: Path | None,
    threshold: float | None,
    batch_size: int,
    device: str,
    memory: int | None,
    stream: str | int,
    runtime: str | None,
    cache: bool,
) -> None:
    """Score images with a saved or exported detector, and draw heat maps.

    IMAGES are files, folders or globs. An image that cannot be read gets a row with its error, and the exit code is 1;
    the others are scored all the same. Nothing is added to the cache.

    All pictures share one color scale: it starts at a typical normal pixel and turns bright at the threshold.
    """
    from padim_zoo.data.files import image_files
    from padim_zoo.report.picture_folder import picture_folder, picture_names, refuse_among_images, write_map

    if output is None and (maps or pictures):
        raise InputError("--maps and --pictures need a folder to write to: add --output DIR")
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"--threshold {threshold} is no threshold: expected a finite number")
    target = scores or ("-" if output is None else str(output / f"scores.{form or 'csv'}"))
    paths = image_files(images)
    if output is not None and pictures:
        refuse_among_images(output, pictures, (Path(image) for image in images if Path(image).is_dir()), paths)
    limits: dict[str, Any] = {"device": device, "batch_size": batch_size, "memory": memory, "stream": stream}
    detector = _detector(model, runtime, cache, limits)
    if maps and not detector.makes_maps:
        raise InputError(f"{model} scores whole images and makes no anomaly maps: leave out --maps")
    predict_within = predict_in(detector, roi)
    limit = detector.threshold_ if threshold is None else threshold
    folder = picture_folder(output, PictureChoice(pictures, alpha, colormap), detector, model, limit)

    rows: list[Row] = []
    names = picture_names(paths)
    at_once = getattr(detector, "images_at_once", batch_size)
    for (path, result), name in zip(_predictions(predict_within, paths, at_once), names, strict=True):
        if isinstance(result, InputError):
            click.echo(f"Error: {printable(result)}", err=True)
            rows.append(Row(printable(path), error=printable(result)))
            continue
        score, anomaly_map, pictured = result
        anomalous = None if limit is None else score > limit
        row = Row(printable(path), _shortest(score), None if limit is None else _shortest(limit), anomalous)
        try:
            if maps and output is not None and anomaly_map is not None:
                write_map(output, name, anomaly_map)
            if folder is not None:
                folder.write(name, path, score, pictured)
        except InputError as error:  # a name too long for a picture, say: the score is there all the same
            click.echo(f"Error: {printable(error)}", err=True)
            row = replace(row, error=printable(error))
        rows.append(row)
    _write_scores(target, form, rows)
    if target != "-":
        pictures_in = "" if folder is None else f", pictures in {output}"
        click.echo(f"scores of {len(rows)} images in {target}{pictures_in}", err=True)
    if blocks := blocks_of(detector):
        click.echo(f"streams in {blocks}", err=True)
    seen = coverage_of(detector, paths)
    click.echo(str(seen), err=True)
    if seen.note is not None:
        click.echo(f"note: {seen.note}", err=True)
    if any(row.error for row in rows):
        sys.exit(SOME_FAILED)


def _detector(model: Path, runtime: str | None, cache: bool, limits: dict[str, Any]) -> Any:
    """What scores images: a detector, or an exported one, which needs no torch."""
    from padim_zoo.export.runtimes import ExportedModel, runtime_of

    if (runtime or "torch") != "torch" or runtime_of(model) is not None:
        if limits["stream"] != "auto":
            raise InputError(f"{model} is exported and takes whole images: leave out --stream, or predict by the model")
        return ExportedModel(model, runtime)
    return load_detector(model, cache=cache, writes=False, **limits)


def _predictions(
    predict: Callable[[Sequence[Path]], Prediction], paths: Sequence[Path], batch_size: int
) -> Iterator[tuple[Path, tuple[float, np.ndarray | None, np.ndarray | None] | InputError]]:
    """Score, map and map for pictures of each image, or why there is none; batch by batch, for any number of images."""
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        try:
            prediction = predict(batch)
        except Exception as error:
            refusal = error
            if is_out_of_memory(error):
                refusal = InputError(f"{batch[0]} does not fit into memory: make it smaller")
            if not isinstance(refusal, InputError):
                raise
            if len(batch) == 1:
                yield batch[0], refusal
            else:  # one image spoils the batch: find out which
                yield from _predictions(predict, batch, 1)
            continue
        pictured = prediction.pictured
        for position, path in enumerate(batch):
            anomaly_map = None if prediction.maps is None else prediction.maps[position]
            score = float(prediction.scores[position])
            yield path, (score, anomaly_map, None if pictured is None else pictured[position])


def _shortest(score: float) -> float:
    """The number with the fewest digits that is the same as float32: what it takes to compare scores, and no more."""
    import numpy as np

    return float(str(np.float32(score)))


def _write_scores(target: str, form: str | None, rows: Sequence[Row]) -> None:
    from padim_zoo.core.atomic_write import write_text_whole

    as_json = form == "json" or (form is None and target.lower().endswith(".json"))
    text = (
        json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        if as_json
        else _csv(rows)
    )
    if target == "-":
        click.echo(text, nl=False)
    else:
        write_text_whole(target, text)


def _json(rows: Sequence[Row]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        anomalous = None if row.anomalous is None else str(row.anomalous).lower()
        text_cells = {"path": without_formula(row.path), "error": row.error and without_formula(row.error)}
        writer.writerow({**asdict(row), **text_cells, "anomalous": anomalous})
    return text.getvalue()
