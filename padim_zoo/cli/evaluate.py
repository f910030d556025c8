"""``padim-zoo evaluate``: a saved detector against labeled test images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.options import (
    DatasetChoice,
    PictureChoice,
    cache_option,
    dataset_options,
    picture_options,
    plugin_option,
    region_given,
    roi_option,
)
from padim_zoo.cli.table import show_json, show_table
from padim_zoo.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from padim_zoo.data.sample import Sample
    from padim_zoo.detectors.prediction import Prediction
    from padim_zoo.report.picture_folder import PictureFolder

FIGURES = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "pixel_f1", "aupro")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@dataset_options
@click.option("--aupro-limit", type=click.FloatRange(0, 1, min_open=True), default=0.3, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for pictures.")
@picture_options
@roi_option
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images at once.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@cache_option
@plugin_option
def evaluate(
    model: Path,
    source: DatasetChoice,
    aupro_limit: float,
    as_json: bool,
    output: Path | None,
    pictures: PictureChoice,
    roi: Path | None,
    batch_size: int,
    device: str,
    cache: bool,
) -> None:
    """Judge a saved detector on the test images of a data set.

    Prints the figures, and what two thresholds do on the test images: the model's own, made from normal images only,
    and the one with the highest F1, which is chosen with the labels of these very images and so flatters.
    """
    import numpy as np

    from padim_zoo import metrics
    from padim_zoo.cache.caches import Caches
    from padim_zoo.data.loading import masks
    from padim_zoo.detectors import load

    if pictures.kinds and output is None:
        raise InputError("--pictures need a folder to write to: add --output DIR")
    chosen = source.load()
    if not chosen.test:
        raise InputError(
            f"{chosen.name} of {source.dataset} has no test images, so there is nothing to judge: add test/good and "
            "test/<kind of defect>, or score single images with padim-zoo predict"
        )
    detector: Any = load(model, device=device, batch_size=batch_size)
    if cache:
        detector.cache = Caches.usual()
    folder = None if output is None else pictures.folder(detector, model, output, detector.threshold_)
    samples = chosen.test
    prediction: Prediction = region_given(detector, roi)([sample.path for sample in samples])
    truth = masks(samples, detector.transform)
    labels = np.array([sample.label for sample in samples])
    figures = metrics.evaluate(
        labels, prediction.scores, prediction.maps, truth, aupro_limit=aupro_limit, roi_masks=prediction.roi_masks
    )
    low, high = metrics.bootstrap_interval(labels, prediction.scores)
    thresholds = [
        {"threshold_for": purpose, **metrics.rates_at_threshold(threshold, labels, prediction.scores)}
        for purpose, threshold in (
            ("false-alarm rate", prediction.threshold),
            ("highest F1", figures.values["image_f1_threshold"]),
        )
    ]
    if folder is not None:
        _write_pictures(folder, samples, prediction, truth)
    caveat = None if detector.calibration_ is None else detector.calibration_.caveat
    notes = [*figures.notes, *([] if caveat is None else [caveat])]

    title = f"{source.dataset}, {chosen.name}: {(labels == 0).sum()} normal and {labels.sum()} anomalous test images"
    if as_json:
        show_json(
            {
                "model": str(model),
                "dataset": source.dataset,
                "category": chosen.name,
                "normal_images": int((labels == 0).sum()),
                "anomalous_images": int(labels.sum()),
                "aupro_limit": aupro_limit,
                **figures.values,
                "image_auroc_low": low,
                "image_auroc_high": high,
                "thresholds": thresholds,
                "notes": notes,
            }
        )
        return
    click.echo(f"{title}\n")
    intervals = {"image_auroc": _interval(low, high)}
    show_table(
        [
            {"figure": name.replace("_", " "), "value": figures.values[name], "95 % interval": intervals.get(name)}
            for name in FIGURES
        ]
    )
    click.echo()
    show_table(
        [
            {
                "threshold for": row["threshold_for"],
                "score": row["score"],
                "false alarms": _share(row["false_alarms"]),
                "detections": _share(row["detections"]),
            }
            for row in thresholds
        ]
    )
    for note in notes:
        click.echo(f"note: {note}")


def _share(found: dict[str, float] | None) -> str | None:
    if found is None:
        return None
    return f"{found['count']} of {found['of']}: {found['rate']:.3f} ({_interval(found['low'], found['high'])})"


def _interval(low: float, high: float) -> str | None:
    return None if math.isnan(low) else f"{low:.3f} to {high:.3f}"


def _write_pictures(
    folder: PictureFolder,
    samples: Sequence[Sample],
    prediction: Prediction,
    truth: Sequence[np.ndarray | None],
) -> None:
    """Pictures of all test images; the panel shows the ground truth."""
    import numpy as np

    from padim_zoo.report.picture_folder import picture_names

    names = picture_names([sample.path for sample in samples])
    pictured = prediction.pictured
    for position, (name, sample, mask) in enumerate(zip(names, samples, truth, strict=True)):
        anomaly_map = None if pictured is None else pictured[position]
        if mask is None and anomaly_map is not None and sample.label == 0:
            mask = np.zeros(anomaly_map.shape, dtype=bool)
        folder.write(name, sample.path, float(prediction.scores[position]), anomaly_map, mask)
