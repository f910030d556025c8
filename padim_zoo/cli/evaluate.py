"""``padim-zoo evaluate``: a saved detector against labeled test images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.inputs import load_category, load_detector, open_roi, predict_in
from padim_zoo.cli.options import MODEL, PATH, check_target
from padim_zoo.cli.settings import setting_command
from padim_zoo.cli.table import show_json, show_table
from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import told
from padim_zoo.detectors.description import coverage_of
from padim_zoo.pictures.kinds import PictureChoice

if TYPE_CHECKING:
    from padim_zoo.bench.evaluation import Evaluation, ScoredTestSet
    from padim_zoo.report.picture_folder import PictureFolder


@setting_command("evaluate")
@click.argument("model", type=MODEL)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("-o", "--output", type=PATH, help="Folder for figures.csv, figures.json and pictures.")
def evaluate(
    model: Path,
    as_json: bool,
    output: Path | None,
    pictures: tuple[str, ...],
    alpha: float,
    colormap: str,
    roi: Path | None,
    mask_resize: str,
    mask_orientation: str | None,
    aupimo_bounds: tuple[float, float] | None,
    batch_size: int,
    memory: int | None,
    stream: str | int,
    runtime: str | None,
    device: str,
    cache: bool,
    dataset: str,
    **source: Any,
) -> None:
    """Evaluate a saved detector on the test images of a data set.

    Images that the model was fitted on are left out, and counted.

    Prints the metrics, and the decisions on images at two thresholds: the model's own, set from normal images only, and
    the one with the highest F1. The latter is chosen with the labels of the test images, so its results are optimistic.
    A table shows what other false-alarm rates would give. ClassF1 is at the model's own. SegF1, pixel false alarms and
    detected regions are at the pixel threshold, the 99.9th percentile of the pixels of normal images.

    --output writes all of this as figures.csv and figures.json too.
    """
    if pictures and output is None:
        raise InputError("--pictures need a folder to write to: add --output DIR")
    region = open_roi(roi)  # before torch is imported
    from padim_zoo.bench.evaluation import Evaluation, score_test_images
    from padim_zoo.core.spill import spill_above
    from padim_zoo.data.sample import protocol_of
    from padim_zoo.metrics.per_image_overlap import AUPIMO_BOUNDS
    from padim_zoo.report.figure_files import write_figures
    from padim_zoo.report.picture_folder import picture_folder, refuse_among_images
    from padim_zoo.statistics.accumulator import default_budget, largest_array

    # Maps that memory has no room for lie in files, from which metrics are computed block by block.
    click.get_current_context().with_resource(spill_above(largest_array(memory or default_budget())))
    opened, category = load_category({"dataset": dataset, "cache": cache, **source})
    if not category.test:
        raise InputError(
            f"{category.name} of {dataset} has no test images, so there is nothing to evaluate: add test/good "
            "and test/<kind of defect>, or score single images with padim-zoo predict"
        )
    limits: dict[str, Any] = {"device": device, "batch_size": batch_size, "memory": memory, "stream": stream}
    detector = load_detector(model, runtime=runtime, cache=cache, **limits)
    folder = picture_folder(output, PictureChoice(pictures, alpha, colormap), detector, model, None)
    if output is not None:
        check_target(output / "figures.csv")
    if output is not None and pictures:
        refuse_among_images(output, pictures, {sample.path.parent for sample in category.test}, [])
    predict = predict_in(detector, region)
    scored = score_test_images(detector, category, predict, mask_resize=mask_resize, mask_orientation=mask_orientation)
    made = Evaluation.of(detector, scored, aupimo_bounds or AUPIMO_BOUNDS)
    if folder is not None:
        _write_pictures(folder, scored)
    seen, protocol = coverage_of(detector, scored.samples, mask_orientation), protocol_of(opened)
    notes = [*made.notes, *([] if seen.note is None else [seen.note])]
    if protocol is not None and str(protocol) != str(detector.transform):
        notes.append(f"the transform is not the protocol of {dataset} ({protocol}): do not compare published tables")
    anomalous = int(scored.labels.sum())
    normal = len(scored.labels) - anomalous
    document = {
        "model": str(model),
        "dataset": dataset,
        "category": category.name,
        "normal_images": normal,
        "anomalous_images": anomalous,
        "coverage": seen.to_dict(),
        **made.values,
        **made.intervals,
        "aupimo_bounds": aupimo_bounds or AUPIMO_BOUNDS,
        "thresholds": made.thresholds,
        "false_alarm_rates": made.rates,
        "learned_images_left_out": scored.left_out,
        "near_copies_of_learned_images": scored.near_copies,
        "notes": notes,
    }
    if output is not None:
        write_figures(output, document, made.intervals, made.thresholds[0])
    if as_json:
        show_json(document)
        return
    click.echo(f"{dataset}, {category.name}: {normal} normal and {anomalous} anomalous test images\n{seen}\n")
    _show(made, any(sample.masks for sample in scored.samples), scored.prediction.decides)
    for note in notes:
        click.echo(f"note: {note}")


def _show(made: Evaluation, has_masks: bool, decides: str) -> None:
    """Tables of the metrics, of regions by their size, and of the decisions at thresholds."""
    from padim_zoo.metrics import METRICS

    values, intervals = made.values, made.intervals
    show_table(
        [
            {
                "metric": metric.title,
                "value": values[name],
                "decided by": metric.decided_by,
                "95 % interval": _interval(intervals.get(f"{name}_low"), intervals.get(f"{name}_high")),
            }
            for name, metric in METRICS.items()
            if metric.quarter is None and (has_masks or not math.isnan(values[name]))
        ]
    )
    click.echo()
    if not math.isnan(values["region_area_50"]):
        show_table(_by_region_size(values))
        click.echo()
    show_table(
        [
            {
                "threshold for": row.get("threshold_for") or f"rate {row['false_alarm_rate']:.3g}",
                "score": row["score"],
                "false alarms": _rate(row["false_alarms"]),
                "detections": _rate(row["detections"]),
            }
            for row in [*made.thresholds, *made.rates]
        ]
    )
    if not math.isnan(values["pixel_threshold"]):
        click.echo(
            f"\nThe {decides} threshold decides which images are alarms. The pixel threshold, "
            f"{values['pixel_threshold']:.4g}, decides which pixels are marked."
        )


def _by_region_size(values: Mapping[str, float]) -> list[dict[str, Any]]:
    """The metrics of each quarter of the regions, one row a quarter."""
    from padim_zoo.metrics import METRICS

    ends = [0.0, *(values[f"region_area_{percent}"] for percent in (25, 50, 75)), math.inf]
    return [
        {
            "regions by area": f"quarter {quarter}",
            "pixels": f"over {low:.0f}"
            if math.isinf(high)
            else f"{low:.0f} to {high:.0f}"
            if low
            else f"up to {high:.0f}",
            **{
                metric.title.split(",")[0]: values[name]
                for name, metric in METRICS.items()
                if metric.quarter == quarter
            },
        }
        for quarter, (low, high) in enumerate(pairwise(ends), 1)
    ]


def _rate(rate: dict[str, float] | None) -> str | None:
    if rate is None:
        return None
    return f"{rate['count']} of {rate['of']}: {rate['rate']:.3f} ({_interval(rate['low'], rate['high'])})"


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or math.isnan(low) else f"{low:.3f} to {high:.3f}"


def _write_pictures(folder: PictureFolder, scored: ScoredTestSet) -> None:
    """Pictures of all test images; the panel shows the ground truth."""
    import numpy as np

    from padim_zoo.report.picture_folder import picture_names

    names, pictured = picture_names([sample.path for sample in scored.samples]), scored.prediction.pictured
    of_each = told(zip(names, scored.samples, scored.truth, strict=True), "drawing pictures", len(names), "pictures")
    for position, (name, sample, mask) in enumerate(of_each):
        anomaly_map = None if pictured is None else pictured[position]
        if mask is None and anomaly_map is not None and sample.label == 0:
            mask = np.zeros(anomaly_map.shape, dtype=bool)
        folder.write(name, sample.path, float(scored.prediction.scores[position]), anomaly_map, mask)
