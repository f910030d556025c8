"""Whatever a run document has in one of its fields, it is refused or every reader of a store copes with it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from padim_zoo.bench.document_fields import find_problem
from padim_zoo.bench.leaderboard import leaderboard
from padim_zoo.bench.protocol import coverage_lines
from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.run_result import RunResult
from padim_zoo.bench.store import FORMAT, DamagedRunError, digest_of, read_document
from padim_zoo.report.commands import reproducing_command

ODD = (None, 10**30, -1e308, "text", [], [1], {"a": [1]})


def document(**config: Any) -> dict[str, Any]:
    asked = RunConfig(
        **{
            **{"dataset": "mvtec", "category": "gear", "data": "0", "detector": "padim", "backbone": "resnet18"},
            **{"estimator": "full", "layers": ("layer1",), "n_components": 5, "resize": 32, "sigma": 4.0},
            **{"seed": 0, "folds": 1, **config},
        }
    )
    return {
        "format": FORMAT,
        "id": asked.id,
        "status": "done",
        "created": "2026-01-02T03:04:05+00:00",
        "config": asked.to_dict(),
        "weights": "default",
        "drawn": ["channels"],
        "asked_resize": 32,
        "precision": "float32",
        "n_train": 10,
        "n_test": 20,
        "coverage": {"resize": 32, "crop": None, "image_share": 1.0, "annotated_share": 0.5},
        "folds": [{"image_auroc": 0.5}],
        "notes": ["note"],
        "interval": {"image_auroc_low": 0.25},
        "threshold": {"detections": 1.0},
        "corruptions": [{"corruption": None, "amount": None, "false_alarms": 0.5, "detections": 1.0}],
        "timings": {"model_mb": 5.0},
        "runtimes": [],
        "environment": {"cpu": "a processor", "gpu": None, "padim_zoo": "1"},
        "arrays": {},
    }


def ensemble() -> dict[str, Any]:
    members = [{"backbone": name, "layers": ["layer1"], "estimator": "full"} for name in ("resnet18", "vit")]
    made = document(backbone="resnet18+vit", layers=None, ensemble="mean", members=members)
    return {**made, "weights": "default+a.pth"}


def variants(whole: dict[str, Any], within: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The document with each value of some fields, at any depth, replaced by each odd one, or absent."""

    def places(part: Any, way: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        for key in list(part) if isinstance(part, dict) else range(len(part)):
            yield (*way, key)
            if isinstance(part[key], (dict, list)):
                yield from places(part[key], (*way, key))

    for *way, last in (place for place in places(whole, ()) if place[0] in within):
        for value in (*ODD, ...):
            changed = copy.deepcopy(whole)
            part = changed
            for key in way:
                part = part[key]
            if value is ...:
                del part[last]
            else:
                part[last] = value
            yield f"{[*way, last]} = {value}", changed


def write_document(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps({**content, "digest": digest_of(content)}))


def test_what_a_run_that_failed_before_its_images_were_seen_records_is_read() -> None:
    seen = RunResult().recorded()
    failed = {**document(), **seen, "runtimes": list(seen["runtimes"]), "status": "failed", "environment": {}}
    assert find_problem({**failed, "error": {"type": "E", "message": "m", "traceback": "t"}}) is None


@pytest.mark.parametrize(
    ("whole", "within"),
    [(document(), tuple(document())), (ensemble(), ("config", "weights"))],
    ids=["one", "ensemble"],
)
def test_what_is_not_refused_is_shown(whole: dict[str, Any], within: Sequence[str], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    refused = 0
    for what, changed in [("nothing", whole), *variants(whole, within)]:
        write_document(path, changed)
        try:
            changed = read_document(path)
        except DamagedRunError:
            assert what != "nothing"
            refused += 1
            continue
        try:
            json.dumps(leaderboard([changed]).to_dict("records"), default=str)
            reproducing_command(changed)
            coverage_lines([changed])
        except Exception as error:
            raise AssertionError(what) from error
    assert refused > 100
