"""``padim-zoo merge``: detectors fitted on parts of the normal images to the one that all of them make."""

from __future__ import annotations

from filecmp import cmp
from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.options import PATH, output_option, refuse_folder, show_rows, size_of, try_to_calibrate
from padim_zoo.cli.settings import setting_command
from padim_zoo.core.errors import InputError


@setting_command("merge")
@click.argument("models", nargs=-1, required=True, type=PATH)
@output_option("The merged model, one file.")
@click.option("--resumable", is_flag=True, help="Save what padim-zoo update and merge need.")
def merge(models: tuple[Path, ...], output: Path, fpr: float | None, resumable: bool) -> None:
    """Merge models of padim or subspace that were fitted on parts of the normal images, as if fitted on all of them.

    The MODELS must have the same backbone, weights, layers, transform and seed. Each must hold the statistics of its
    images: save it with padim-zoo fit --resumable, unless it has at least as many dimensions as images. The estimator
    is that of the first. Images that several models know by their pixels count once.

    The merged model has a threshold if all models hold their samples, not moments.
    """
    from padim_zoo.detectors.loading import load

    if len(models) < 2:
        raise InputError(f"there is nothing to merge {models[0]} with: expected two or more models")
    refuse_folder(output)
    detector: Any = None
    for number, model in enumerate(models):
        part: Any = load(model)
        for earlier in models[:number]:
            if cmp(earlier, model, shallow=False):
                raise InputError(f"{model} is the same model as {earlier}: its images would count twice")
        if not hasattr(part, "merge") or (detector is not None and type(part) is not type(detector)):
            raise InputError(f"{model} is a {type(part).__name__}: only models of one kind, padim or subspace, merge")
        resumable = resumable or part.statistics_ is not None
        try:
            detector = part if detector is None else detector.merge(part)
        except InputError as error:
            raise InputError(f"{model} cannot join {models[0]}: {error}") from None
    why_none = try_to_calibrate(detector, fpr)
    detector.save(output, resumable=resumable)
    threshold = f"none: {why_none}" if why_none else f"{detector.threshold_:.4g}"
    show_rows(detector.describe_fit() | {"threshold": threshold, "saved": size_of(output)})
