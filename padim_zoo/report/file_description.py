"""What a file or folder of padim-zoo is and what it holds: a model, an export, weights, a run store or a baseline.

Headers are read without torch. An exported file is opened by its runtime, and ``verify`` reads everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from padim_zoo.bench.status import has_failed, is_done
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import Fields, read_json
from padim_zoo.core.file_type import file_type
from padim_zoo.detectors.config import DECIDES


def describe_file(path: str | Path, *, verify: bool = False) -> dict[str, Any]:
    """Say what a file is.

    Parameters
    ----------
    path : str or Path
        A model, an exported file, weights of a backbone, a run document, a baseline, or the folder of a run store.
    verify : bool
        Read the whole file and compare it with every hash that it holds.

    Returns
    -------
    dict
        ``kind``, ``path`` and ``bytes``, then what the kind has, ready for JSON. After a verification also
        ``verified``, the number of arrays or files that are as they were saved.

    Raises
    ------
    InputError
        If there is no such file, it is nothing of padim-zoo, or it is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _describe_store(path, verify)
    if not path.is_file():
        raise InputError(f"{path} does not exist: expected a model, an exported file, a baseline or a run store")
    from padim_zoo.export.suffixes import SUFFIXES

    content = file_type(path)
    describe: Callable[[Path, bool], dict[str, Any]]
    if content == "a safetensors file":
        describe = _describe_safetensors
    elif path.suffix.lower() in SUFFIXES.values():
        describe = _describe_export
    elif content == "JSON":
        describe = _describe_json
    else:
        raise InputError(f"{path} is {content}: expected a model, an exported file, a baseline or a run store")
    try:
        facts = describe(path, verify)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} does not say what it is ({reason}): write it again with this version") from None
    return {"kind": facts.pop("kind"), "path": str(path), "bytes": _size(path), **facts}


def _describe_safetensors(path: Path, verify: bool) -> dict[str, Any]:
    from padim_zoo.backbones.weight_provenance import HEADER
    from padim_zoo.detectors.model_header import KEY, read_header

    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            metadata = Fields(read_json(file.read(min(size, 100_000_000)))).values.get("__metadata__", {})
            weights = read_json(Fields(metadata).values.get(HEADER, "null"))
        except (ValueError, TypeError):
            raise InputError(f"{path} is not a whole safetensors file: write it again") from None
    if KEY in metadata:
        content, provenance = read_header(path, metadata)
        if verify:
            from padim_zoo.detectors.loading import verify as verify_model

            verify_model(path)
        return {**provenance, **_describe_model(content)} | ({"verified": len(content["arrays"])} if verify else {})
    if isinstance(weights, dict):
        return _describe_weights(path, weights, verify)
    raise InputError(f"{path} is a safetensors file, but not of padim-zoo: expected a model or weights that it wrote")


def _describe_model(header: Mapping[str, Any]) -> dict[str, Any]:
    """The header of a model, members of an ensemble included."""
    parameters = Fields(header).fields("parameters").values
    grids = [Fields({"grids": grid}).sizes("grids") for grid in header.get("grids") or ()]
    if parameters.get("layers") is not None:
        Fields(parameters).array("layers")
    calibration = header.get("calibration") or {}
    promised = Fields(calibration, "calibration.")
    for name in {"threshold", "false_alarm_rate", "region_threshold", "region_rate"} & set(calibration):
        promised.or_none(name, promised.number)
    facts = {
        "kind": "model",
        "format": header.get("format"),
        "results_version": header.get("results_version"),
        "detector": header["detector"],
        **{
            name: parameters.get(name)
            for name in ("backbone", "estimator", "layers", "resize", "crop", "rule", "map_values")
        },
        "described": {str(title): str(text) for title, text in dict(header.get("described", {})).items()},
        "weights_hash": header.get("weights_hash"),
        "precision": header.get("precision"),
        "runtime": header.get("runtime"),
        "n_images": header.get("n_images"),
        "image_size": header.get("image_size"),
        "grid": list(max(grids, key=math.prod)) if grids else None,
        "threshold": calibration.get("threshold"),
        "false_alarm_rate": calibration.get("false_alarm_rate"),
        "set_by_hand": True if calibration and calibration.get("false_alarm_rate") is None else None,
        "folds": calibration.get("folds"),
        **{name: calibration.get(name) for name in ("region_threshold", "region_rate", "region_area")},
        "decides": calibration.get("decides", DECIDES[0]) if calibration else None,
        "members": [_describe_model(member) for member in header.get("members", [])],
        "parameters": parameters,
    }
    return {name: value for name, value in facts.items() if value not in (None, [], {}) or name == "parameters"}


def _describe_weights(path: Path, document: Mapping[str, Any], verify: bool) -> dict[str, Any]:
    names = ("backbone", "layers", "source", "weights_hash", "precision", "images", "held_out_images", "left_out")
    facts = {
        "kind": "weights of a backbone",
        "version": document.get("padim_zoo"),
        **{name: document.get(name) for name in names},
    }
    if verify:
        from safetensors.torch import load_file

        from padim_zoo.backbones.backbone import hash_of

        state = load_file(path)
        if hash_of(state) != document.get("weights_hash"):
            raise InputError(f"{path} is damaged: its arrays are not what was saved; run padim-zoo finetune again")
        facts["verified"] = len(state)
    return facts


def _describe_export(path: Path, verify: bool) -> dict[str, Any]:
    from padim_zoo.export.runtimes import ExportedModel, runtime_of_file

    metadata = ExportedModel(path).metadata.document
    # All of it was read, and compared with the digest in it.
    checked = {"verified": 1} if verify else {}
    return {"kind": "exported model", "runtime": runtime_of_file(path), **metadata} | checked


def _describe_json(path: Path, verify: bool) -> dict[str, Any]:
    from padim_zoo.bench.check.baseline import KIND, read_baseline
    from padim_zoo.bench.store import DamagedRunError, read_document

    try:
        content = read_json(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is JSON that is cut off or damaged ({error}): restore it") from None
    if isinstance(content, dict) and content.get("kind") == KIND:
        baseline = read_baseline(path)
        benchmarks = 0 if baseline.benchmarks is None else len(baseline.benchmarks.timings)
        facts = {"kind": "baseline", "format": content["format"], "runs": len(baseline.rows), "benchmarks": benchmarks}
        return facts | _configurations(row.config for row in baseline.rows)
    try:
        document = read_document(path)
    except DamagedRunError:
        if isinstance(content, dict) and "config" in content:
            raise
        raise InputError(f"{path} is JSON of something else: expected a baseline or a run document") from None
    facts = {"kind": "run", **{name: document.get(name) for name in ("format", "id", "status", "created")}}
    if verify:
        _verify_run(path.parent, document)
        facts["verified"] = 1
    return {**facts, "version": document.get("environment", {}).get("padim_zoo"), "config": document["config"]}


def _describe_store(folder: Path, verify: bool) -> dict[str, Any]:
    from padim_zoo.bench.store import RunStore

    contents = RunStore(folder).read_all()
    if not contents.documents and not contents.problems:
        raise InputError(f"{folder} is a folder without runs: expected a run store, the output of padim-zoo bench")
    documents = contents.documents
    if verify:
        if contents.problems:
            raise InputError(f"{len(contents.problems)} files of {folder} are damaged, e.g. {contents.problems[0]}")
        for document in documents:
            _verify_run(folder, document)
    created = sorted(str(document["created"]) for document in documents if document.get("created"))
    versions = {document.get("environment", {}).get("padim_zoo") for document in documents}
    return {
        "kind": "run store",
        "path": str(folder),
        "bytes": sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        "runs": len(documents),
        "failed": sum(has_failed(document) for document in documents),
        "damaged": len(contents.problems),
        "version": sorted(version for version in versions if version),
        "date": [created[0], created[-1]] if created else [],
        **_configurations(document["config"] for document in documents),
    } | ({"verified": len(documents)} if verify else {})


def _verify_run(folder: Path, document: Mapping[str, Any]) -> None:
    """A run has the id of its configuration, and arrays that can be read.

    Raises
    ------
    InputError
        If not.
    """
    from padim_zoo.bench.run import RunConfig
    from padim_zoo.bench.store import RunStore

    run_id = document["id"]
    if RunConfig(**document["config"]).id != run_id:
        raise InputError(f"the run {run_id} in {folder} is damaged: its configuration has another id; run it again")
    if is_done(document):
        RunStore(folder).scores(run_id)
        RunStore(folder).gallery(run_id)


def _configurations(configs: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The distinct values of what tells runs apart."""
    names = {"datasets": "dataset", "categories": "category", "detectors": "detector", "backbones": "backbone"}
    listed = list(configs)
    values = {
        plural: {config.get(name) for config in listed}
        for plural, name in (names | {"estimators": "estimator"}).items()
    }
    return {plural: sorted(str(value) for value in found if value is not None) for plural, found in values.items()}


def _size(path: Path) -> int:
    """Bytes of a file, and of the numbers beside it in OpenVINO's format."""
    beside = path.with_suffix(".bin")
    return path.stat().st_size + (beside.stat().st_size if path.suffix.lower() == ".xml" and beside.is_file() else 0)
