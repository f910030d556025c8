"""Metrics: pure functions of labels, scores, anomaly maps and masks, and the table of them."""

from __future__ import annotations

from padim_zoo.metrics.confidence import PairedDifference, bootstrap_interval, paired_difference, paired_images
from padim_zoo.metrics.conformal import conformal_threshold, smallest_false_alarm_rate
from padim_zoo.metrics.doubts import order_doubt, promise_doubt
from padim_zoo.metrics.evaluation import EvaluationResult, evaluate, evaluate_decisions
from padim_zoo.metrics.metric import METRICS, Metric
from padim_zoo.metrics.per_image_overlap import NormalTail, aupimo_of_images
from padim_zoo.metrics.ranking import Ranking, auroc, average_precision, detection_curve, f1_max, precision_curve, rank
from padim_zoo.metrics.region_overlap import Regions, aupro, pro_curve, rank_pixels, spro
from padim_zoo.metrics.thresholds import f1_at, false_positive_rate_at, pixel_threshold, rates_at_threshold

__all__ = [
    "METRICS",
    "EvaluationResult",
    "Metric",
    "NormalTail",
    "PairedDifference",
    "Ranking",
    "Regions",
    "aupimo_of_images",
    "aupro",
    "auroc",
    "average_precision",
    "bootstrap_interval",
    "conformal_threshold",
    "detection_curve",
    "evaluate",
    "evaluate_decisions",
    "f1_at",
    "f1_max",
    "false_positive_rate_at",
    "order_doubt",
    "paired_difference",
    "paired_images",
    "pixel_threshold",
    "precision_curve",
    "pro_curve",
    "promise_doubt",
    "rank",
    "rank_pixels",
    "rates_at_threshold",
    "smallest_false_alarm_rate",
    "spro",
]
