"""``padim-zoo evaluate``: a saved detector against labeled test images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from padim_zoo.cli.options import (
    PATH,
    check_target,
    coverage_of,
    load_category,
    load_detector,
    predict_in,
    runtime_of,
    unpromised,
)
from padim_zoo.cli.settings import setting_command
from padim_zoo.cli.table import show_json, show_table
from padim_zoo.core.errors import InputError
from padim_zoo.core.progress import told
from padim_zoo.pictures.kinds import PictureChoice

if TYPE_CHECKING:
    import numpy as np

    from padim_zoo.data.sample import Sample
    from padim_zoo.detectors.prediction import Prediction
    from padim_zoo.report.picture_folder import PictureFolder


@setting_command("evaluate")
@click.argument("model", type=PATH)
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
    Below stands what other false-alarm rates would cost. ClassF1 is at the model's own. SegF1, pixel false alarms and
    detected regions are at the pixel threshold, the 99.9th percentile of the pixels of normal images.

    --output writes all of this as figures.csv and figures.json too.
    """
    import numpy as np

    from padim_zoo import metrics
    from padim_zoo.cache.caches import Caches
    from padim_zoo.cache.fingerprints import FingerprintsInMemory
    from padim_zoo.core.spill import spill_above
    from padim_zoo.data.duplicates import MOST_IMAGES, refuse_equal_scores
    from padim_zoo.data.image_hashes import HashedImages
    from padim_zoo.data.loading import masks
    from padim_zoo.data.sample import protocol_of
    from padim_zoo.data.saturation import saturation_shares
    from padim_zoo.data.unreadable import naming_unreadable
    from padim_zoo.detectors.config import DECIDES
    from padim_zoo.detectors.overlap import count_near_copies, new_samples
    from padim_zoo.metrics.metric import confidence_intervals
    from padim_zoo.metrics.per_image_overlap import AUPIMO_BOUNDS
    from padim_zoo.report.figure_files import write_figures
    from padim_zoo.report.picture_folder import picture_folder, refuse_among_images
    from padim_zoo.statistics.accumulator import default_budget, largest_array

    if pictures and output is None:
        raise InputError("--pictures need a folder to write to: add --output DIR")
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
    if detector.fingerprints is None:
        # Copies are looked for after the pass over the images, which decodes each once.
        detector.cache = Caches(fingerprints=FingerprintsInMemory(len(category.train) + len(category.test)))
    folder = picture_folder(output, PictureChoice(pictures, alpha, colormap), detector, model, None)
    if output is not None:
        check_target(output / "figures.csv")
    if output is not None and pictures:
        refuse_among_images(output, pictures, {sample.path.parent for sample in category.test}, [])
    depth, kept = detector.transform.bit_depth, detector.fingerprints
    # All are scored, for what is decoded then gives the hashes by which learned images are left out.
    images: Any = [sample.path for sample in category.test]
    if detector.learned_images_.hashes is not None:
        images = HashedImages(images, depth, kept=kept)
    with naming_unreadable([sample.path for sample in category.test]):
        prediction: Prediction = predict_in(detector, roi)(images)
    samples, positions, left_out, notes = new_samples(detector, category.test)
    near_copies = count_near_copies(detector, category.train, samples)
    if near_copies:
        notes.append(
            f"{near_copies} of {len(samples)} test images are near copies of images that the model has learned: its "
            "figures may be too good"
        )
    elif near_copies is None:
        notes.append(f"near copies of learned images are not looked for among more than {MOST_IMAGES} images")
    prediction = prediction.images(positions)
    refuse_equal_scores(samples, prediction.scores, depth, kept)
    canvas = None if prediction.maps is None else prediction.maps.shape[1:]
    truth = masks(samples, detector.transform, rule=mask_resize, orientation=mask_orientation, canvas=canvas)
    labels = np.array([sample.label for sample in samples])
    calibration, bounds = detector.calibration_, aupimo_bounds or AUPIMO_BOUNDS
    own = prediction.threshold if calibration is None else calibration.threshold
    result = metrics.evaluate(
        labels,
        prediction.scores,
        prediction.maps,
        truth,
        roi_masks=prediction.roi_masks,
        saturation=saturation_shares(samples, truth),
        image_threshold=own,
        pixel_threshold=None if calibration is None else calibration.map_high,
        aupimo_bounds=bounds,
    )
    intervals = confidence_intervals(labels, prediction.scores)
    rates = [
        {"false_alarm_rate": rate, **metrics.rates_at_threshold(threshold, labels, prediction.scores)}
        for rate, threshold in ({} if calibration is None else calibration.thresholds()).items()
    ]
    by_hand = calibration is not None and calibration.false_alarm_rate is None
    thresholds = [
        {"threshold_for": purpose, **metrics.rates_at_threshold(threshold, labels, prediction.scores)}
        for purpose, threshold in (
            ("set by hand" if by_hand else "false-alarm rate", own),
            ("highest F1", result.values["image_f1_threshold"]),
        )
    ]
    if prediction.decides != DECIDES[0]:
        decided = metrics.rates_at_threshold(prediction.threshold, labels, prediction.deciding_scores)
        thresholds.insert(0, {"threshold_for": f"decision by {prediction.decides}", **decided})
    if folder is not None:
        _write_pictures(folder, samples, prediction, truth)
    notes += result.notes
    notes += [f"the backbone runs in {runs}"] if (runs := runtime_of(detector)) else []
    if calibration is not None:
        alarms, doubt = thresholds[0]["false_alarms"], None
        rate = {"image": calibration.false_alarm_rate, "region": calibration.region_rate}.get(prediction.decides)
        if alarms is not None and rate is not None:
            doubt = metrics.promise_doubt(alarms["count"], alarms["of"], rate, calibration.n_groups)
        notes += [note for note in (doubt, calibration.caveat, unpromised(calibration)) if note is not None]
    seen, protocol = coverage_of(detector, samples, mask_orientation), protocol_of(opened)
    notes += [] if seen.note is None else [seen.note]
    if protocol is not None and str(protocol) != str(detector.transform):
        notes.append(f"the model's transform is not the protocol of {dataset} ({protocol}): compare no published table")

    title = f"{dataset}, {category.name}: {(labels == 0).sum()} normal and {labels.sum()} anomalous test images"
    document = {
        "model": str(model),
        "dataset": dataset,
        "category": category.name,
        "normal_images": int((labels == 0).sum()),
        "anomalous_images": int(labels.sum()),
        "coverage": seen.to_dict(),
        **result.values,
        **intervals,
        "aupimo_bounds": bounds,
        "thresholds": thresholds,
        "false_alarm_rates": rates,
        "learned_images_left_out": left_out,
        "near_copies_of_learned_images": near_copies,
        "notes": notes,
    }
    if output is not None:
        write_figures(output, document, intervals, thresholds[0])
    if as_json:
        show_json(document)
        return
    masks_there = any(sample.masks for sample in samples)
    click.echo(f"{title}\n{seen}\n")
    show_table(
        [
            {
                "metric": metric.title,
                "value": result.values[name],
                "decided by": metric.decided_by,
                "95 % interval": _interval(intervals.get(f"{name}_low"), intervals.get(f"{name}_high")),
            }
            for name, metric in metrics.METRICS.items()
            if metric.quarter is None and (masks_there or not math.isnan(result.values[name]))
        ]
    )
    click.echo()
    if not math.isnan(result.values["region_area_50"]):
        show_table(_by_region_size(result.values))
        click.echo()
    show_table(
        [
            {
                "threshold for": row.get("threshold_for") or f"rate {row['false_alarm_rate']:.3g}",
                "score": row["score"],
                "false alarms": _rate(row["false_alarms"]),
                "detections": _rate(row["detections"]),
            }
            for row in [*thresholds, *rates]
        ]
    )
    if not math.isnan(result.values["pixel_threshold"]):
        click.echo(
            f"\nThe {prediction.decides} threshold decides which images are alarms. The pixel threshold, "
            f"{result.values['pixel_threshold']:.4g}, decides which pixels are marked."
        )
    for note in notes:
        click.echo(f"note: {note}")


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
    of_each = told(zip(names, samples, truth, strict=True), "drawing pictures", len(names), "pictures")
    for position, (name, sample, mask) in enumerate(of_each):
        anomaly_map = None if pictured is None else pictured[position]
        if mask is None and anomaly_map is not None and sample.label == 0:
            mask = np.zeros(anomaly_map.shape, dtype=bool)
        folder.write(name, sample.path, float(prediction.scores[position]), anomaly_map, mask)
