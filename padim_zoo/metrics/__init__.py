"""Metrics: pure functions of labels, scores, anomaly maps and masks, and the table of them."""

from __future__ import annotations

from padim_zoo.metrics.confidence import PairedDifference, bootstrap_interval, paired_difference
from padim_zoo.metrics.conformal import conformal_threshold, smallest_false_alarm_rate
from padim_zoo.metrics.decisions import rates_at_threshold
from padim_zoo.metrics.evaluation import EvaluationResult, evaluate
from padim_zoo.metrics.metric import METRICS, Metric
from padim_zoo.metrics.ranking import Ranking, auroc, average_precision, detection_curve, f1_max, precision_curve, rank
from padim_zoo.metrics.region_overlap import aupro, pro_curve, rank_pixels

__all__ = [
    "METRICS",
    "EvaluationResult",
    "Metric",
    "PairedDifference",
    "Ranking",
    "aupro",
    "auroc",
    "average_precision",
    "bootstrap_interval",
    "conformal_threshold",
    "detection_curve",
    "evaluate",
    "f1_max",
    "paired_difference",
    "precision_curve",
    "pro_curve",
    "rank",
    "rank_pixels",
    "rates_at_threshold",
    "smallest_false_alarm_rate",
]
