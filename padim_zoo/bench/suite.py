"""What a benchmark is asked to do: the same settings from the command line and from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from padim_zoo import registry
from padim_zoo.bench.record import Record
from padim_zoo.bench.settings import settings_of
from padim_zoo.cache.usual import usual_fingerprints
from padim_zoo.core.errors import InputError
from padim_zoo.core.file_type import file_type
from padim_zoo.core.suggest import suggest
from padim_zoo.data.sample import Dataset
from padim_zoo.data.unreadable import ReadableDataset
from padim_zoo.detectors.config import PASSES

_MOST_VALUES = 10_000


class Suite(Record):
    """A grid of runs and how to do them: a value for each setting that ``bench`` takes.

    :data:`~padim_zoo.bench.settings.SETTINGS` says what each is, how it is read, and what it is by default.

    Parameters
    ----------
    **settings
        As text, as YAML gives them, or as values.

    Raises
    ------
    InputError
        If a setting is unknown (the closest is named), its value does not fit, or two contradict each other.
    """

    def __init__(self, **settings: Any) -> None:
        rows = {row.name: row for row in settings_of("bench")}
        for name in settings:
            if name not in rows:
                raise InputError(f"unknown setting {name!r}: {suggest(name, rows)}")
        super().__init__({name: row.parse(settings.get(name, row.value_in("bench"))) for name, row in rows.items()})
        least = max(2, self.folds)
        smallest = min((size for size in self.train_sizes if size is not None), default=least)
        if smallest < least:
            raise InputError(f"train_sizes has {smallest}: expected numbers of images of at least {least}, or all")
        if self.passes is not None and self.augment is None:
            raise InputError(f"passes is {self.passes} without augment: say what to change, e.g. flip,rotate(10)")

    @classmethod
    def from_settings(cls, *sources: Mapping[str, Any]) -> Suite:
        """A suite of several sources, of which later ones override earlier ones; ``-`` in a name is ``_``."""
        return cls(**{str(name).replace("-", "_"): value for source in sources for name, value in source.items()})

    @property
    def pass_count(self) -> int | None:
        """The number of passes, the default worked out; None without augmentation."""
        return None if self.augment is None else self.passes or PASSES

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
        named: dict[str, Any] = {name: path for name, path in folders.items() if path is not None}
        if named and self.dataset_name != "folder":
            raise InputError(
                f"{', '.join(named)} belong to the dataset folder: leave them out with dataset {self.dataset_name}"
            )
        if self.dataset_name == "folder" and self.cache:
            named["fingerprints"] = usual_fingerprints
        dataset = registry.datasets.create(self.dataset_name, root=self.data_root, **named)
        return ReadableDataset(dataset) if self.skip_unreadable else dataset


def _refuse_many_values(path: Path, content: Any) -> None:
    """Refuse a document of too many values: aliases of aliases make billions of a few bytes."""
    waiting, seen = [content], 0
    while waiting:
        part = waiting.pop()
        seen += 1
        if isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            waiting += part
        if seen + len(waiting) > _MOST_VALUES:
            raise InputError(f"the suite {path} has over {_MOST_VALUES:,} values: expected a few for each setting")


def preset_settings(name: str) -> dict[str, Any]:
    """The settings of a suite that comes with the package.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    folder = Path(__file__).with_name("suites")
    presets = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in presets:
        raise InputError(f"unknown suite {name!r}: expected {', '.join(presets)}, or your own file with --config")
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
        _refuse_many_values(path, content)
    except OSError as error:
        raise InputError(f"cannot read the suite {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"the suite {path} is {file_type(path)}: expected YAML, lines of 'setting: value'") from None
    except RecursionError:
        raise InputError(f"the suite {path} nests too deeply: expected lines of 'setting: value'") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter of a date that cannot be, say
        reason = " ".join(str(error).split())
        raise InputError(f"the suite {path} is not YAML: {reason}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"the suite {path} holds a {type(content).__name__}: expected lines of 'setting: value'")
    return content
