"""``padim-zoo finetune``: a backbone and normal images to weights adapted to them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.candidates import complete_files
from padim_zoo.cli.options import PATH, check_target, comma_separated, output_option
from padim_zoo.cli.settings import asked_settings, setting_command
from padim_zoo.cli.table import show_rows, size_of
from padim_zoo.core.errors import InputError

if TYPE_CHECKING:
    from padim_zoo.finetune.adaptation import Adaptation


@setting_command("finetune")
@click.argument("images", nargs=-1, shell_complete=complete_files)
@output_option("The weights, a safetensors file.")
@click.option("--overwrite", is_flag=True, help="Replace --output if it exists.")
@click.option("--method", default="discriminants", show_default=True, help="How to adapt: discriminants or 3-way.")
@click.option("--components", type=int, help="discriminants: directions per layer.  [default: 48]")
@click.option("--pieces", type=int, help="discriminants: pasted pieces per image.  [default: 4]")
@click.option("--epochs", type=int, help="3-way: largest number of epochs.  [default: 10]")
@click.option("--learning-rate", type=float, help="3-way: initial learning rate.  [default: 1e-5]")
@click.option("--train-batch", type=int, help="3-way: normal images per step.  [default: 8]")
@click.option("--patience", type=int, help="3-way: epochs without improvement before stopping.  [default: 5]")
@click.option("--freeze", callback=comma_separated, help="3-way: parts to freeze, e.g. conv1,layer1.")
@click.option("--checkpoint", type=PATH, help="3-way: file to resume from.")
@click.option("--held-out", type=float, help="Share of the images to hold out.  [default: 0.2]")
def finetune(
    images: tuple[str, ...],
    output: Path,
    overwrite: bool,
    dataset: str,
    data_root: Path | None,
    categories: tuple[str, ...],
    backbone: str,
    weights: str,
    layers: tuple[str, ...] | None,
    method: str,
    resize: Any,
    crop: Any,
    device: str,
    precision: str,
    memory: int | None,
    skip_unreadable: bool,
    **settings: Any,
) -> None:
    """Adapt a backbone to normal images, for fit and bench.

    IMAGES are files, folders or globs of normal images. Or give --data-root, to use the training images of a data set.
    Both methods learn from pieces that are cut out and pasted elsewhere (CutPaste).

    discriminants takes seconds. It projects each layer onto the directions in which pasted pieces differ most from
    normal images. 3-way takes minutes. It trains the network to tell images with pasted pieces from normal ones.

    At the end PaDiM is evaluated before and after, on held-out normal images with synthetic defects. If nothing was
    learned, no file is written and the exit status is 2.
    """
    from padim_zoo.backbones.device import resolve_device, resolve_precision
    from padim_zoo.bench.protocol import resolve_transform
    from padim_zoo.data.coverage import coverage
    from padim_zoo.data.files import normal_image_files
    from padim_zoo.data.grid import look_ahead
    from padim_zoo.data.sample import load_categories
    from padim_zoo.data.training_depth import counts_of_images
    from padim_zoo.data.transform import choose_grid
    from padim_zoo.data.unreadable import naming_unreadable, readable_images
    from padim_zoo.finetune.adaptation import write_weights
    from padim_zoo.finetune.evaluation import evaluate_adaptation
    from padim_zoo.finetune.images import load_images
    from padim_zoo.finetune.methods import adapt, make_recipe, rebuilt
    from padim_zoo.metrics.metric import title_of
    from padim_zoo.registry import backbones, datasets

    asked = asked_settings()
    if bool(images) == any(name in asked for name in ("dataset", "data_root", "categories")):
        sources = "both images and a data set" if images else "neither images nor a data set"
        raise InputError(f"{sources} to learn from: expected normal IMAGES, or --data-root DIR")
    _refuse_files(output, overwrite, settings.get("checkpoint"))
    where = resolve_device(device)
    kind = resolve_precision(precision, where)
    options = {name: value for name, value in settings.items() if value is not None}
    recipe = make_recipe(method, options, precision=kind, report=_show)
    opened = None
    if images:
        paths = normal_image_files(images)
    else:
        opened = datasets.create(dataset, root=data_root)
        loaded = load_categories(opened, categories)
        for category in loaded:
            category.warn()
        paths = [sample.path for category in loaded for sample in category.train]
    paths, skipped = readable_images(paths) if skip_unreadable else (paths, [])
    module = backbones.create(backbone, layers=layers, weights=weights).to(where)
    started = time.perf_counter()
    with naming_unreadable(paths):
        transform = replace(resolve_transform(resize, crop, opened), bit_depth=counts_of_images(paths).depth_or_full)
        stride = None
        if isinstance(transform.resize, int) and transform.crop is None:
            stride = max(module.strides)
            transform = transform.on_grid(choose_grid(look_ahead(paths)[0], transform.resize, stride))
        seen = coverage(transform, paths, stride)
        pixels = load_images(paths, transform, memory)
    adaptation = adapt(module.in_precision(kind), pixels, recipe)
    adapted = rebuilt(backbone, module, adaptation)
    comparison = evaluate_adaptation(module, adapted, pixels, adaptation.used, adaptation.held_out, recipe.seed)
    computed = module.in_precision(kind)
    document = write_weights(
        output,
        adaptation,
        backbone=computed,
        transform=transform,
        paths=paths,
        left_out=skipped,
        comparison=comparison,
    )
    metrics = [f"{title_of(name)} {old:.3f} → {comparison.after[name]:.3f}" for name, old in comparison.before.items()]
    tried = f"PaDiM on {comparison.defects} drawn defects in held-out normal images, before → after:"
    show_rows(
        {
            "backbone": f"{backbone}, layers {','.join(module.layers)}, weights {document['source']}",
            "images": f"{len(adaptation.used)} to learn from, {len(adaptation.held_out)} held out",
            "transform": str(transform),
            "looks at": seen.shares.removeprefix("looks at "),
            "method": _summary(adaptation),
            "tried by": ("\n" + " " * 11).join([tried, *metrics]),
            "seconds": f"{time.perf_counter() - started:.1f}",
            "saved": f"{size_of(output)}, hash {document['weights_hash']}",
            "use it as": f"--backbone {backbone} --weights {output}",
        }
    )
    if seen.note is not None:
        click.echo(f"note: {seen.note}", err=True)
    if not comparison.helped:
        click.echo("Warning: the drawn defects are not found better than before: do not expect much from it", err=True)


def _refuse_files(output: Path, overwrite: bool, checkpoint: Path | None) -> None:
    check_target(output, "my.safetensors")
    if output.suffix != ".safetensors":
        raise InputError(f"--output {output} would not be read as weights: expected a name that ends in .safetensors")
    if output.exists() and not overwrite:
        raise InputError(f"--output {output} exists: name another file, or add --overwrite")
    if checkpoint is not None and (checkpoint.is_dir() or checkpoint == output):
        raise InputError(f"--checkpoint {checkpoint} is a folder or the output: expected another file name")


def _show(epoch: int, epochs: int, loss: float, accuracy: float) -> None:
    """A line for each epoch of a training."""
    click.echo(f"epoch {epoch}/{epochs}  held-out loss {loss:.4g}  accuracy {accuracy:.3f}", err=True)


def _summary(adaptation: Adaptation) -> str:
    report = adaptation.report
    if "shares" in report:
        directions = ", ".join(str(len(shares)) for shares in report["shares"].values())
        return f"{report['method']}, {directions} directions of the layers"
    best, losses = report["best_epoch"], report["losses"]
    return (
        f"{report['method']}, best after {best} of {len(losses) - 1} epochs: held-out loss {losses[0]:.3g} → "
        f"{losses[best]:.3g}, accuracy {report['accuracies'][best]:.2f} (chance {report['chance']:.2f})"
    )
