"""A run: one configuration on one category, one row of the leaderboard, known by a hash of its configuration."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

RESULTS_VERSION = 1
"""Part of every run's identity: raised when a change of this package changes figures, so that no old run is reused.

Where it changes features too, so is :attr:`padim_zoo.cache.features.FeatureCache.version`."""

_LATER = ("train_size", "augment", "passes", "tta", "roi")
"""Settings that came after the first runs were recorded; None stands for what was done before."""

Size = int | tuple[int, int] | None


@dataclass(frozen=True)
class RunConfig:
    """All that decides the figures of a run, and nothing else.

    Paths, threads, workers, device and batch size are left out: they change how long a run takes, not what it finds. So
    is the type that ``precision`` ``"auto"`` comes to: it moves figures by less than what matters.
    Options that a detector does not take are None.

    Attributes
    ----------
    dataset, category : str
        What is tested.
    data : str
        Fingerprint of the category's files.
    detector, backbone, estimator : str
        Specs as the registries take them. Those of an ensemble's members are joined by ``+``.
    weights_hash : str
        Hash of the backbone's weights.
    layers : tuple of str
        Layers of the backbone in use.
    n_components : int
        Dimensions of a patch embedding.
    seed : int
        Draws the channels, and shuffles the normal images into folds.
    reduction : str
        How the dimensions come of all channels, ``"random"`` or ``"orthogonal"``.
    resize, crop : int, pair of int or None
        The transform in front of the backbone.
    precision : str
        Type that the backbone is asked to compute in. What ``"auto"`` came to is not part of the configuration, so that
        a run is the same on every machine: the document says it.
    sigma : float
        Blur of the anomaly map in pixels.
    train_size : int
        Normal images that are drawn, with the seed, from all of them; None for all.
    folds : int
        1: one fit on all normal images; k: fits on k - 1 of k parts each.
    ensemble : str
        The rule, ``"mean"`` or ``"max"``, if this is an ensemble.
    members : tuple of str
        Ids of the runs that an ensemble combines.
    augment, tta : str
        Operations that make other views of images, in a fit and when they are scored.
    passes : int
        Views of each normal image in a fit.
    roi : str
        Fingerprint of the region of interest.
    plugins : tuple of str
        Identity of the code of all plugins that the data set, the detector, the backbone and the estimator come from,
        as :attr:`padim_zoo.registry.Entry.code` gives it.
    """

    dataset: str
    category: str
    data: str
    detector: str
    backbone: str | None = None
    weights_hash: str | None = None
    layers: tuple[str, ...] | None = None
    n_components: int | None = None
    estimator: str | None = None
    seed: int = 0
    reduction: str | None = None
    resize: Size = None
    crop: Size = None
    precision: str | None = None
    sigma: float | None = None
    folds: int = 1
    ensemble: str | None = None
    members: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    results_version: int = RESULTS_VERSION
    train_size: int | None = None
    augment: str | None = None
    passes: int | None = None
    tta: str | None = None
    roi: str | None = None

    @property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the configuration as canonical JSON."""
        values = asdict(self)
        for name in _LATER:  # as it was before there were these: runs of older stores keep their ids
            if values[name] is None:
                del values[name]
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON holds it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


@dataclass(frozen=True)
class Run:
    """A run that was asked for.

    Attributes
    ----------
    config : RunConfig
        What decides its figures.
    weights : str
        The backbone's weights as its registry takes them: ``default``, ``none`` or a path.
    weights_label : str
        Their source as a leaderboard shows it: a file by its name, without the folder.
    """

    config: RunConfig
    weights: str = "default"
    weights_label: str | None = None

    @property
    def id(self) -> str:
        """The id of its configuration."""
        return self.config.id

    def __str__(self) -> str:
        config = self.config
        model = [config.backbone, config.estimator]
        if config.ensemble is not None:
            model.append(f"{config.ensemble} of members")
        if config.train_size is not None:
            model.append(f"{config.train_size} images")
        if config.augment is not None:
            model.append(f"{config.passes} passes of {config.augment}")
        if config.tta is not None:
            model.append(f"tta {config.tta}")
        parts = [config.category, config.detector, *(part for part in model if part), f"seed {config.seed}"]
        return " ".join(parts)
