"""``padim-zoo predict``: a saved detector and images to scores, maps and pictures."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.candidates import complete_files
from padim_zoo.cli.inputs import expect, load_detector, open_roi, predict_in
from padim_zoo.cli.options import MODEL, PATH, check_target, refuse_same
from padim_zoo.cli.settings import asked_settings, setting_command
from padim_zoo.core.atomic_write import write_text_whole
from padim_zoo.core.errors import CANNOT_WRITE, InputError
from padim_zoo.core.memory import is_out_of_memory
from padim_zoo.core.numbers import number_of
from padim_zoo.core.printable import printable
from padim_zoo.core.progress import stage
from padim_zoo.detectors.description import blocks_of, coverage_of, describe_runtime
from padim_zoo.pictures.kinds import PictureChoice
from padim_zoo.report.score_file import Row, ScoreFile, digest_of_model, is_stream, to_text

if TYPE_CHECKING:
    import numpy as np

    from padim_zoo.data.roi import RegionOfInterest
    from padim_zoo.detectors.prediction import Prediction

SOME_FAILED = 1
"""Exit code when some images could not be scored."""


@setting_command("predict")
@click.argument("model", type=MODEL)
@click.argument("images", nargs=-1, shell_complete=complete_files, required=True)
@click.option("-o", "--output", type=PATH, help="Folder for scores, maps and pictures.")
@click.option("--scores", metavar="FILE|-", help="Where to write the scores.  [default: scores.csv in --output, or -]")
@click.option(
    "--format", "form", type=click.Choice(["csv", "json"]), help="Format of the scores.  [default: by FILE, or csv]"
)
@click.option(
    "--maps",
    type=click.Choice(["npy", "original"]),
    help="Write anomaly maps to --output as .npy: of the transformed image, or in the pixels of the original one.",
)
@click.option(
    "--regions", type=PATH, metavar="FILE", help="Write the regions of each image: JSON, or COCO to FILE.coco.json."
)
@click.option("--resume", is_flag=True, help="Continue the scores of an interrupted command.")
@click.option("--threshold", type=float, help="Threshold to use instead of the model's own.")
def predict(
    model: Path,
    images: tuple[str, ...],
    output: Path | None,
    scores: str | None,
    form: str | None,
    maps: str | None,
    regions: Path | None,
    resume: bool,
    pictures: tuple[str, ...],
    alpha: float,
    colormap: str,
    roi: Path | None,
    map_values: str | None,
    threshold: float | None,
    batch_size: int,
    device: str,
    memory: int | None,
    stream: str | int,
    runtime: str | None,
    cache: bool,
) -> None:
    """Score images with a saved or exported detector, and draw heat maps.

    IMAGES are files, folders or globs. An image that cannot be read gets a row with its error, and the exit code is 1.
    The other images are still scored. Nothing is added to the cache.

    A region is a group of connected pixels of the map, of at least a certain area, that score above a threshold: that
    of fit --region-fpr, or else that of the pictures. --regions gives boxes and masks in the pixels of the image before
    resize and crop.

    Of a model with the parameter register, a row has the pose of the part too: turn in degrees, clockwise; shift_x and
    shift_y in pixels of the resized image; and pose_p_value. They are empty where no pose was found.

    Scores go row by row to a file whose name ends in .part, which is renamed at the end. If the command is interrupted,
    --resume scores the remaining images.

    An exported MODEL has the runtime of its suffix, unless --runtime names another.

    --maps original undoes resize and crop; pixels that were not looked at are NaN. Pictures are of the original too.

    All pictures share one color scale: it starts at a typical normal pixel and turns bright at the threshold.
    """
    from padim_zoo.data.files import image_files
    from padim_zoo.data.image import image_size
    from padim_zoo.report.picture_folder import picture_folder, picture_names, refuse_among_images, write_map
    from padim_zoo.report.region_file import RegionFile

    if output is None and (maps or pictures):
        raise InputError("--maps and --pictures need a folder to write to: add --output DIR")
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"--threshold is {threshold}: expected a finite number")
    if scores == "":
        raise InputError("--scores is empty: expected a file, or - for standard output")
    target = scores or ("-" if output is None else str(output / f"scores.{form or 'csv'}"))
    if regions is not None:
        if str(regions) == "-":
            raise InputError("--regions is -: expected a file, e.g. regions.json")
        check_target(regions, "regions.json", "--regions")
    if output is not None and not output.is_dir():
        check_target(output / "scores.csv")
    paths = image_files(images)
    written = {"--scores": None if is_stream(target) else Path(target), "--regions": regions}
    refuse_same({"MODEL": model, **written})
    refuse_same(written, paths)
    if output is not None and pictures:
        refuse_among_images(output, pictures, (Path(image) for image in images if Path(image).is_dir()), paths)
    region = open_roi(roi)  # before torch is imported
    limits: dict[str, Any] = {"device": device, "batch_size": batch_size, "memory": memory, "stream": stream}
    detector = _detector(model, runtime, cache, limits)
    if "map_values" in asked_settings():
        from padim_zoo.detectors.recalibration import set_map_values

        set_map_values(detector, model, map_values or "score")
    if (maps or regions) and not detector.makes_maps:
        raise InputError(f"{model} scores whole images and makes no anomaly maps: leave out --maps and --regions")
    if regions and resume:
        raise InputError("--regions describes all images, but --resume scores only the rest: leave out one")
    region_file = None if regions is None else RegionFile(regions, model, detector, threshold)
    predict_within = predict_in(detector, region)
    decides, own = detector.decision
    limit = own if threshold is None else threshold
    folder = picture_folder(output, PictureChoice(pictures, alpha, colormap), detector, model, threshold)
    as_json = form == "json" or (form is None and target.lower().endswith(".json"))
    poses = getattr(detector, "registration_", None) is not None
    options = {"threshold": threshold, "roi": _content_of(region), "maps": maps, "pictures": pictures}
    options |= {"alpha": alpha, "colormap": colormap, "runtime": runtime, "map_values": map_values}
    file = None if is_stream(target) else ScoreFile(Path(target), as_json=as_json, poses=poses)
    if file is None and resume:
        raise InputError(f"--resume continues a file, and {target} is not one: add --output DIR, or --scores FILE")
    rows: list[Row] = []
    failed: dict[str, list[str]] = {}  # by what is said apart from the file
    named = list(zip(paths, picture_names(paths), strict=True))
    at_once = getattr(detector, "images_at_once", batch_size)
    if file is not None:
        file.begin({"model": digest_of_model(model), "options": options}, resume=resume)
    try:
        before = 0 if file is None else len(file)
        left = [(path, name) for path, name in named if file is None or path not in file]
        expect(detector, len(left))
        results = _predictions(predict_within, [path for path, _ in left], at_once)
        with stage("scoring", len(left)) as progress:
            for (path, result), (_, name) in zip(results, left, strict=True):
                row = _row(path, result, limit)
                try:
                    if not isinstance(result, InputError):
                        score, anomaly_map, pictured, _ = result
                        if maps and output is not None and anomaly_map is not None:
                            size = image_size(path)
                            if maps == "original" and pictured is not None:
                                anomaly_map = detector.transform.on_original(pictured, *size)
                            else:
                                anomaly_map = detector.transform.own_part(anomaly_map, *size)
                            write_map(output, name, anomaly_map)
                        if region_file is not None and pictured is not None:
                            region_file.add(path, row.score, row.anomalous, pictured)
                        if folder is not None:
                            folder.write(name, path, score, pictured)
                except InputError as error:  # a name too long for a picture, say: the score is there all the same
                    if error.exit_code == CANNOT_WRITE:
                        raise
                    row = replace(row, error=printable(error))
                if row.error is not None:
                    failed.setdefault(row.error.replace(row.path, ""), []).append(row.error)
                rows.append(row)
                if file is not None:
                    file.add(row)
                progress.advance()
        for first, *more in failed.values():
            click.echo(f"Error: {first}" + (f" (and {len(more)} more images alike)" if more else ""), err=True)
    except BaseException:
        if file is not None and file.keep_or_remove():
            click.echo(f"{len(file)} of {len(paths)} images are in {file.part}: --resume goes on", err=True)
        raise
    if file is not None:
        rows = file.finish(paths)
    elif target == "-":
        click.echo(to_text(rows, as_json=as_json, poses=poses), nl=False)
    else:
        write_text_whole(target, to_text(rows, as_json=as_json, poses=poses))
    if region_file is not None:
        click.echo(region_file.write(), err=True)
    if getattr(detector, "values_of_maps", None) is not None:
        _tell_p_values(detector, threshold)
    if limit is not None:
        click.echo(f"decided by the {decides} threshold, {limit:.4g}", err=True)
    if target != "-":
        earlier = f", {before} of them from before" if before else ""
        pictures_in = "" if folder is None else f", pictures in {output}"
        click.echo(f"scores of {number_of(len(rows), 'image')}{earlier} in {target}{pictures_in}", err=True)
    if blocks := blocks_of(detector):
        click.echo(f"streams in {blocks}", err=True)
    if runs := describe_runtime(detector):
        click.echo(f"runtime {runs}", err=True)
    seen = coverage_of(detector, paths)
    click.echo(str(seen), err=True)
    if seen.note is not None:
        click.echo(f"note: {seen.note}", err=True)
    if any(row.error for row in rows):
        sys.exit(SOME_FAILED)


Scored = tuple[float, "np.ndarray | None", "np.ndarray | None", dict[str, "float | None"]]
"""Score, map, map for pictures and pose of an image."""


def _tell_p_values(detector: Any, threshold: float | None) -> None:
    """Say what are p-values, how far ranks tell them, and whether the threshold is beyond."""
    from padim_zoo.detectors.p_value_maps import decides_by_p_values, end_of_ranks, note_on_tail

    what, end = "scores and maps" if decides_by_p_values(detector) else "maps", end_of_ranks(detector)
    click.echo(
        f"{what} are -log10 of p-values: from ranks of normal images up to {end:.2f} (p {10**-end:.2g}), from a model "
        "of the tail beyond",
        err=True,
    )
    if (note := note_on_tail(detector, threshold)) is not None:
        click.echo(f"note: {note}", err=True)


def _content_of(region: RegionOfInterest | None) -> str | None:
    """What tells regions of interest apart, wherever they lie."""
    return None if region is None else f"with pixels {region.fingerprint()}"


def _row(path: Path, result: Scored | InputError, limit: float | None) -> Row:
    if isinstance(result, InputError):
        return Row(printable(path), error=printable(result))
    score, *_, pose = result
    if limit is None:
        return Row(printable(path), _shortest(score), pose=pose)
    return Row(printable(path), _shortest(score), _shortest(limit), score > limit, pose=pose)


def _detector(model: Path, runtime: str | None, cache: bool, limits: dict[str, Any]) -> Any:
    """What scores images: a detector, or an exported one, which needs no torch."""
    from padim_zoo.core.file_type import file_type
    from padim_zoo.export.runtimes import ExportedModel, runtime_of_file
    from padim_zoo.runtimes.runtime import AUTO, RUNTIMES

    exported = runtime_of_file(model) is not None
    if runtime in RUNTIMES and not exported:  # a name of one's own
        exported = model.is_file() and file_type(model) != "a safetensors file"
    if exported:
        if runtime == AUTO:
            raise InputError(f"{model} is exported and has its own runtime: leave out --runtime auto")
        if limits["stream"] != "auto":
            raise InputError(f"{model} is exported and takes whole images: leave out --stream, or use the model")
        return ExportedModel(model, runtime)
    return load_detector(model, runtime=runtime, cache=cache, writes=False, **limits)


def _predictions(
    predict: Callable[[Sequence[Path]], Prediction], paths: Sequence[Path], batch_size: int
) -> Iterator[tuple[Path, Scored | InputError]]:
    """What is said of each image, or why there is nothing; batch by batch, for any number of images."""
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
        pictured, scores = prediction.pictured, prediction.deciding_scores
        of_parts = getattr(prediction, "poses", None)  # no exported model has any
        poses = {} if of_parts is None else of_parts.columns()
        for position, path in enumerate(batch):
            anomaly_map = None if prediction.maps is None else prediction.maps[position]
            score = float(scores[position])
            pose = {name: _six_digits(of[position]) for name, of in poses.items()}
            yield path, (score, anomaly_map, None if pictured is None else pictured[position], pose)


def _six_digits(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def _shortest(score: float) -> float:
    """The number with the fewest digits that is the same as float32: what it takes to compare scores, and no more."""
    import numpy as np

    return float(str(np.float32(score)))
