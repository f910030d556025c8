"""A run: one configuration on one category, one row of the leaderboard, known by a hash of its configuration."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from padim_zoo.bench.record import Record
from padim_zoo.bench.settings import SETTINGS
from padim_zoo.core.numbers import number_of
from padim_zoo.core.results_version import RESULTS_VERSION
from padim_zoo.detectors.config import PaDiMConfig

FACTS: dict[str, Any] = {
    "data": None,
    "weights_hash": None,
    "ensemble": None,
    "members": (),
    "plugins": (),
    "results_version": RESULTS_VERSION,
}
"""What decides a run's figures and is no setting, with defaults."""


class RunConfig(Record):
    """All that decides the figures of a run, and nothing else.

    That is the recorded settings of :data:`~padim_zoo.bench.settings.SETTINGS`, under the name of one value, and
    :data:`FACTS`. A setting that a detector does not take is None.

    Paths, threads, workers, device and batch size are left out: they change how long a run takes, not what it finds. So
    is the type that ``precision`` ``"auto"`` comes to, which differs between machines: the document says it.

    Attributes
    ----------
    data : str
        Fingerprint of the category's files.
    weights_hash : str
        Hash of the backbone's weights.
    ensemble : str
        The rule, if this is an ensemble. Texts in which its members differ, such as the backbone, are joined by ``+``;
        other such settings are None.
    members : tuple of dict
        The settings in which the members of an ensemble differ, by name.
    roi : str
        Fingerprint of the region of interest.
    plugins : tuple of str
        Identity of the code of all plugins that the data set, the detector, the backbone and the estimator come from,
        as :attr:`padim_zoo.registry.Entry.code` gives it.
    """

    def __init__(self, **values: Any) -> None:
        names = [row.one for row in SETTINGS.values() if row.recorded]
        unknown = set(values) - {*names, *FACTS}
        if unknown:
            raise TypeError(f"a run has no {', '.join(sorted(unknown))}")
        super().__init__({**dict.fromkeys(names), **FACTS, **values})

    @property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the configuration as canonical JSON.

        None is left out: a setting that is added later leaves the ids of runs without it as they are.
        """
        values = {name: value for name, value in vars(self).items() if value is not None}
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON holds it."""
        plain: dict[str, Any] = json.loads(json.dumps(vars(self)))
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
    members : tuple of Run
        The runs of the same category that an ensemble has for members.
    draws : tuple of str
        What the seed decides in a fit, as :attr:`~padim_zoo.detectors.detector.Detector.draws` of its detector says.
    asked_resize : int, optional
        The length of the shorter side, where the images of the category gave the other one.
    """

    config: RunConfig
    weights: str = PaDiMConfig.weights
    weights_label: str | None = None
    members: tuple[Run, ...] = ()
    draws: tuple[str, ...] = ()
    asked_resize: int | None = None

    @property
    def drawn(self) -> list[str]:
        """What the seed decides in the metrics of this run, in words; empty where every seed gives the same."""
        drawn = [*self.draws]
        if self.config.train_size is not None:
            drawn.append("normal images")
        if self.config.contaminated is not None:
            drawn.append("defects to fit")
        if self.config.folds is not None and self.config.folds > 1:
            drawn.append("folds")
        return drawn

    @property
    def parts(self) -> tuple[Run, ...]:
        """The members of an ensemble; else the run itself."""
        return self.members or (self,)

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
            model.append(number_of(config.train_size, "image"))
        if config.contaminated is not None:
            model.append(f"{config.contaminated:g} of defects")
        if config.augment is not None:
            model.append(f"{config.passes} passes of {config.augment}")
        if config.tta is not None:
            model.append(f"tta {config.tta}")
        parts = [config.category, config.detector, *(part for part in model if part), f"seed {config.seed}"]
        return " ".join(parts)
