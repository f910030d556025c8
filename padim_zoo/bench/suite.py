"""What a benchmark is asked to do: the same settings from the command line and from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from padim_zoo import registry
from padim_zoo.bench.run import Size
from padim_zoo.bench.settings import READERS
from padim_zoo.core.errors import InputError
from padim_zoo.core.file_type import file_type
from padim_zoo.core.suggest import suggest
from padim_zoo.data.augmentation import USUAL_PASSES, parse_operations
from padim_zoo.data.sample import Dataset
from padim_zoo.data.transform import Transform
from padim_zoo.export.runtimes import RUNTIMES
from padim_zoo.features.reduction import REDUCTIONS

ENSEMBLE_RULES = ("mean", "max")
ENSEMBLE_FOLDS = 5
"""Folds of a suite that asks for ensembles and says nothing of folds."""


@dataclass(frozen=True)
class Suite:
    """A grid of runs and how to do them.

    Attributes
    ----------
    backbones, estimators, detectors : tuple of str
        Specs; ``*`` and ``?`` are wildcards. Without backbones: the members of the ensembles, or ``builtin``.
    dataset : str, optional
        A registered dataset. Default: ``folder`` if a folder is given, else ``synthetic``.
    data_root : Path, optional
        The dataset's folder.
    categories : tuple of str
        Names or wildcards; empty for all.
    normal, abnormal, masks : Path, optional
        Folders of the dataset ``folder`` that is not in MVTec's layout.
    folds : int, optional
        Default: 1, or 5 with ensembles, which need out-of-fold scores.
    seeds : tuple of int
        One run for each.
    train_sizes : tuple of int or None
        One run for each: on so many of the normal images, drawn with the seed, a smaller draw being part of a larger
        one; None for all.
    ensemble : tuple of str
        ``backbone[:estimator]+backbone[:estimator]…`` each.
    ensemble_rule : str
        ``"mean"`` or ``"max"`` of the normalized maps.
    layers, weights : tuple of str
        ``VALUE`` for all backbones or ``BACKBONE=VALUE`` for one; a value of layers is ``layer1,layer2``.
    n_components : int, optional
        Dimensions of a patch embedding. Default: the backbone's.
    reduction : str, optional
        How they come of all channels: the ``"leading"`` ones of each layer, ``"random"`` ones or an ``"orthogonal"``
        projection. Default: the backbone's.
    resize, crop : int, (int, int) or None
        The transform in front of the backbone.
    sigma : float
        Blur of the anomaly map in pixels.
    augment, tta : str, optional
        Operations that make other views of images, in a fit and when they are scored:
        ``"flip,rotate(10),brightness(0.1)"``.
    passes : int, optional
        Views of each normal image in a fit with ``augment``; 4 by default.
    roi : Path, optional
        The pixels that count: a mask for all images, or a folder with one for each.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` …
    precision : str
        The type that backbones compute in: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for bfloat16 where it is fast.
    batch_size : int
        Images that pass the backbone at a time.
    cache : bool
        Whether features are kept on disk for the next benchmark, and taken from there.
    gallery : bool
        Whether each run keeps pictures of a few test images for the report.
    runtimes : tuple of str
        ``torch``, ``onnx``, ``openvino``: each detector is exported to these too, and its latency there measured.
    jobs : int
        Worker processes.
    plugin : tuple of Path
        Python files that register backbones, estimators, detectors or datasets.
    output : Path
        The run store.
    """

    backbones: tuple[str, ...] = ()
    estimators: tuple[str, ...] = ("full", "ledoit-wolf", "diagonal")
    detectors: tuple[str, ...] = ("padim",)
    dataset: str | None = None
    data_root: Path | None = None
    categories: tuple[str, ...] = ()
    normal: Path | None = None
    abnormal: Path | None = None
    masks: Path | None = None
    folds: int | None = None
    seeds: tuple[int, ...] = (0,)
    train_sizes: tuple[int | None, ...] = (None,)
    ensemble: tuple[str, ...] = ()
    ensemble_rule: str = "mean"
    layers: tuple[str, ...] = ()
    n_components: int | None = None
    reduction: str | None = None
    resize: Size = 256
    crop: Size = 224
    sigma: float = 4.0
    augment: str | None = None
    passes: int | None = None
    tta: str | None = None
    roi: Path | None = None
    weights: tuple[str, ...] = ()
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 32
    cache: bool = True
    gallery: bool = True
    runtimes: tuple[str, ...] = ()
    jobs: int = 1
    plugin: tuple[Path, ...] = ()
    output: Path = Path("runs")

    def __post_init__(self) -> None:
        for name in ("estimators", "detectors", "seeds", "train_sizes"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty: name at least one")
        for name in ("folds", "n_components", "batch_size", "jobs"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{name} is {number}: expected 1 or more")
        for runtime in self.runtimes:
            if runtime not in RUNTIMES:
                raise InputError(f"runtimes has {runtime!r}: expected some of {', '.join(RUNTIMES)}")
        least = max(2, self.fold_count)
        if any(size is not None and size < least for size in self.train_sizes):
            smallest = min(size for size in self.train_sizes if size is not None)
            raise InputError(f"train_sizes has {smallest}: expected numbers of images of at least {least}, or all")
        if min(self.seeds) < 0:
            raise InputError(f"seeds has {min(self.seeds)}: expected 0 or more")
        if not 0 <= self.sigma < float("inf"):
            raise InputError(f"sigma is {self.sigma}: expected pixels, 0 or more")
        for name in ("augment", "tta"):
            if getattr(self, name) is not None:
                parse_operations(name, getattr(self, name))
        if self.passes is not None and self.augment is None:
            raise InputError(f"passes is {self.passes} without augment: say what to change, e.g. flip,rotate(10)")
        if self.passes is not None and self.passes < 2:
            raise InputError(f"passes is {self.passes}: expected 2 or more")
        if self.reduction is not None and self.reduction not in REDUCTIONS:
            raise InputError(f"reduction is {self.reduction!r}: expected {', '.join(REDUCTIONS)}")
        if self.ensemble_rule not in ENSEMBLE_RULES:
            raise InputError(f"ensemble_rule is {self.ensemble_rule!r}: expected {' or '.join(ENSEMBLE_RULES)}")
        if self.ensemble and self.folds == 1:
            raise InputError(
                "an ensemble normalizes its members by out-of-fold scores, which folds 1 does not give: ask for "
                "folds 2 or more"
            )
        Transform(self.resize, self.crop)

    @property
    def fold_count(self) -> int:
        """The number of folds, the default worked out."""
        return self.folds or (ENSEMBLE_FOLDS if self.ensemble else 1)

    @property
    def pass_count(self) -> int | None:
        """The number of passes, the default worked out; None without augmentation."""
        return None if self.augment is None else self.passes or USUAL_PASSES

    @property
    def dataset_name(self) -> str:
        """The dataset's name, the default worked out."""
        folder_given = any(path is not None for path in (self.data_root, self.normal, self.abnormal, self.masks))
        return self.dataset or ("folder" if folder_given else "synthetic")

    def load_plugins(self) -> None:
        """Run the plugin files, so that what they register can be named."""
        for path in self.plugin:
            registry.load_plugin(path)

    def open_dataset(self) -> Dataset:
        """The dataset that is asked for.

        Raises
        ------
        InputError
            If it is unknown, or its folder is not there or not of its layout.
        """
        folders = {"normal": self.normal, "abnormal": self.abnormal, "masks": self.masks}
        given = {name: path for name, path in folders.items() if path is not None}
        if given and self.dataset_name != "folder":
            raise InputError(
                f"{', '.join(given)} belong to the dataset folder: leave them out with dataset {self.dataset_name}"
            )
        return registry.datasets.create(self.dataset_name, root=self.data_root, **given)

    @classmethod
    def from_settings(cls, *sources: Mapping[str, Any]) -> Suite:
        """Build a suite from settings as text or as YAML gives them; later sources override earlier ones.

        Raises
        ------
        InputError
            If a setting is unknown (the closest is named) or its value does not fit.
        """
        values: dict[str, Any] = {}
        for source in sources:
            for key, value in source.items():
                name = str(key).replace("-", "_")
                if name not in READERS:
                    raise InputError(f"unknown setting {key!r}: {suggest(name, READERS)}")
                if value is not None or name in ("resize", "crop"):
                    values[name] = READERS[name](name, value)
        return cls(**values)


def preset_settings(name: str) -> dict[str, Any]:
    """The settings of a suite that comes with the package.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    folder = Path(__file__).with_name("suites")
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"unknown suite {name!r}: expected {', '.join(known)}, or your own file with --config")
    return read_settings(folder / f"{name}.yaml")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises
    ------
    InputError
        If the file is not there, is not YAML, or is no mapping of settings to values.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the suite {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"the suite {path} is {file_type(path)}: expected YAML, lines of 'setting: value'") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the suite {path} is not YAML: {reason}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"the suite {path} holds a {type(content).__name__}: expected lines of 'setting: value'")
    return content
