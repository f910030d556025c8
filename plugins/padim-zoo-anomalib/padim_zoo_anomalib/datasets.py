"""anomalib's data modules as data sets of the zoo: ``anomalib/MVTecAD``, ``anomalib/Folder`` …

The lists of images are those that anomalib makes; the files are read by padim-zoo. Nothing is downloaded. All of the
test images are test images: nothing is put aside for validation.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from padim_zoo.plugin import Category, Dataset, InputError, ListedDataset, Sample, dataset_root, datasets, folders_in

DATASETS = {
    "AutoVI": "AutoVI: car parts",
    "BMAD": "BMAD: medical images",
    "BTech": "BTAD",
    "Folder": "any folders: anomalib/Folder(normal_dir='good', abnormal_dir='bad', normal_test_dir='test/good')",
    "Kaputt": "Kaputt: retail items",
    "Kolektor": "KolektorSDD, in anomalib's own split",
    "MPDD": "MPDD: painted metal parts",
    "MVTecAD": "MVTec AD",
    "MVTecAD2": "MVTec AD 2, its public test",
    "MVTecLOCO": "MVTec LOCO AD",
    "RealIAD": "Real-IAD",
    "Tabular": "a table of images: anomalib/Tabular(samples='table.csv')",
    "VAD": "VAD",
    "Visa": "VisA, in the split that anomalib makes",
}
"""anomalib's names, and what they are."""

_NORMAL = 0


def open_dataset(kind: str, *, root: str | Path | None = None, **options: Any) -> Dataset:
    """The data set that one of anomalib's data modules lists.

    Parameters
    ----------
    kind : str
        anomalib's name of the data module.
    root : path
        Its folder.
    **options
        Further arguments of the data module.

    Raises
    ------
    InputError
        If the folder is not there or of another layout, or an argument does not fit.
    """
    module = _data_module(kind)
    folder = dataset_root(f"anomalib/{kind}", root, f"the folder that anomalib's {kind} expects")
    parameters = inspect.signature(module).parameters
    unknown = [name for name in options if name not in parameters]
    if unknown:
        raise InputError(f"anomalib's {kind} has no argument {unknown[0]!r}: expected some of {', '.join(parameters)}")
    make = functools.partial(_list, kind, module, folder, options)
    if "category" not in parameters:
        name = str(options.get("name", folder.name))
        options = {"name": name, **options} if "name" in parameters else options
        return ListedDataset(f"anomalib/{kind}", {name: functools.partial(_list, kind, module, folder, options, name)})
    if "category" in options:
        category = str(options.pop("category"))
        return ListedDataset(f"anomalib/{kind}", {category: functools.partial(make, category)})
    folders = [path.name for path in folders_in(folder)]
    # anomalib takes a folder of any name, and only lists the names of the data set as published.
    names = [name for name in folders if name in _categories(module)] or folders
    if not names:
        raise InputError(f"{folder} has no folders in it: anomalib's {kind} expects one for each category")
    return ListedDataset(f"anomalib/{kind}", {name: functools.partial(make, name) for name in names})


def _data_module(kind: str) -> Callable[..., Any]:
    try:
        import anomalib.data
    except ModuleNotFoundError as error:
        raise InputError(f"anomalib/{kind} needs {error.name}: pip install anomalib") from None
    if not hasattr(anomalib.data, kind):
        raise InputError(f"anomalib {anomalib.__version__} has no data module {kind}: install another version")
    module: Callable[..., Any] = getattr(anomalib.data, kind)
    return module


def _categories(module: Any) -> list[str]:
    """The names that the module of its data set lists as ``CATEGORIES``."""
    for candidate in vars(inspect.getmodule(module)).values():
        home = inspect.getmodule(candidate) if inspect.isclass(candidate) else None
        categories = getattr(home, "CATEGORIES", None)
        if categories:
            return sorted(map(str, categories))
    return []


def _list(kind: str, module: Callable[..., Any], folder: Path, options: dict[str, Any], category: str) -> Category:
    parameters = inspect.signature(module).parameters
    arguments = {"root": folder, "num_workers": 0, "seed": 0, "val_split_mode": "none", **options}
    if "category" in parameters:
        arguments["category"] = category
    try:
        made = module(**{name: value for name, value in arguments.items() if name in parameters})
        made.setup()
        train, test = (_samples(part.samples, folder) for part in (made.train_data, made.test_data))
    except InputError:
        raise
    except Exception as error:  # whatever anomalib makes of a folder of another layout
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"anomalib's {kind} cannot list {category} in {folder} ({reason})") from error
    return Category(f"anomalib/{kind}", category, train, test)


def _samples(table: Any, folder: Path) -> tuple[Sample, ...]:
    samples = []
    for row in table.to_dict("records"):
        path, mask = Path(row["image_path"]), str(row.get("mask_path") or "")
        if int(row["label_index"]) == _NORMAL:
            samples.append(Sample(path, 0))
            continue
        has_mask = mask not in ("", "nan", "None") and Path(mask).exists()
        masks = tuple(sorted(Path(mask).iterdir())) if has_mask and Path(mask).is_dir() else (Path(mask),)
        kind = str(row.get("label") or "anomaly")
        samples.append(
            Sample(path, 1, kind if kind not in ("", "good", "normal") else "anomaly", masks if has_mask else ())
        )
    return tuple(samples)


for _kind, _summary in DATASETS.items():
    datasets.register(f"anomalib/{_kind}", summary=_summary)(functools.partial(open_dataset, _kind))
