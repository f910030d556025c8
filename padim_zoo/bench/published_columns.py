"""Names of the columns that hold published figures."""

from __future__ import annotations

from padim_zoo.metrics.metric import METRICS


def published_metrics() -> dict[str, str]:
    """The metrics that are published, and what published.csv calls them."""
    return {metric.name: metric.published for metric in METRICS.values() if metric.published is not None}


def published_column(name: str) -> str:
    """The column of the published value of a metric."""
    return f"published_{name}"


def difference_column(name: str) -> str:
    """The column of the difference between the measured and the published value of a metric."""
    return f"difference_{name}"
