"""``padim-zoo fit`` with ``--cluster`` and with ``--shard``: a fit on more than one machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from padim_zoo.bench.cluster_fit import ClusterFit, Threshold, part_of_shard, refuse_what_is_not_spread
from padim_zoo.bench.executors.cluster import ClusterLostError
from padim_zoo.cli.settings import PLUGINS
from padim_zoo.core.errors import InputError
from padim_zoo.core.shard import Shard
from padim_zoo.data.image_groups import ImageGroups

CLUSTER_LOST = 1


def fit_on_cluster(
    model: Any,
    paths: Sequence[Path],
    parameters: dict[str, Any],
    cluster: str,
    *,
    insecure: bool,
    needs_samples: bool,
    pattern: str | None,
    rate: float | None,
    folds: int,
) -> str | None:
    """Fit on the workers of a cluster; what :meth:`ClusterFit.fit` says of the threshold.

    ``pattern`` is that of groups. With ``needs_samples``, all images leave samples, and no threshold is made here.
    """

    def tell(text: str) -> None:
        click.echo(text, err=True)

    refuse_what_is_not_spread(model)
    threshold = None
    if not needs_samples:
        threshold = Threshold(rate, folds, ImageGroups.of(paths, pattern, model.fingerprints))
    plugins = click.get_current_context().meta[PLUGINS]
    try:
        return ClusterFit(cluster, insecure, plugins, tell).fit(model, paths, parameters, threshold)
    except ClusterLostError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(CLUSTER_LOST)


def fit_shard(model: Any, paths: Sequence[Path], shard: str, pattern: str | None) -> list[Path]:
    """Fit on a shard of the images, on the grid of all; the images of the shard."""
    if not hasattr(model, "merge"):
        raise InputError(f"--shard is for detectors whose models merge, such as padim, and not {model.name}")
    part = part_of_shard(paths, shard)
    model.fit(part, whole=paths)
    groups = ImageGroups.of(part, pattern, model.fingerprints)
    model.learned_images_ = replace(model.learned_images_.with_groups(groups), shards=frozenset({Shard.parse(shard)}))
    return part
