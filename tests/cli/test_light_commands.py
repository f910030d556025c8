"""What reads JSON, or refuses an option, imports no torch: commands that take long for small things are not used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_documents import document
from PIL import Image

from padim_zoo import InputError, registry
from padim_zoo.bench.readers import DEVICES
from padim_zoo.bench.store import RunStore
from padim_zoo.registry.catalog import read_catalog

HEAVY = {"torch", "torchvision", "timm", "sklearn", "onnx", "onnxruntime", "openvino"}
TELL = """
import json, resource, sys, time
started = time.process_time()
from padim_zoo.cli.main import main
code = 0
try:
    main(sys.argv[1:], standalone_mode=True)
except SystemExit as stop:
    code = stop.code
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = {"code": code, "modules": sorted({name.split(".")[0] for name in sys.modules}),
        "files": sorted(sys.modules), "seconds": time.process_time() - started, "megabytes": peak / 1024}
print(json.dumps(told), file=sys.stderr)
"""
PANDAS = """
import json, resource, sys, time
started = time.process_time()
import pandas
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": time.process_time() - started, "megabytes": peak / 1024}), file=sys.stderr)
"""


def told_by(code: str, *arguments: object) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    told: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])
    return {**told, "stdout": result.stdout, "stderr": result.stderr}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 100 runs."""
    store = RunStore(tmp_path_factory.mktemp("store") / "runs")
    for number in range(100):
        names = {"category": f"c{number % 10}", "backbone": f"net{number // 50}", "estimator": f"e{number // 10 % 5}"}
        store.write(document(number, **names))
    return store.folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("leaderboard", "RUNS"),
        ("leaderboard", "RUNS", "--format", "json"),
        ("leaderboard", "RUNS", "--published", "--sort", "aupro"),
        ("report", "RUNS", "-o", "OUT.html"),
        ("plot", "RUNS", "--kind", "pareto", "-o", "OUT.png"),
        ("check", "RUNS", "--baseline", "OUT.json"),
        ("cache", "info"),
        *(("list", kind) for kind in ("backbones", "datasets", "detectors", "estimators")),
    ],
    ids=" ".join,
)
def test_what_reads_json_imports_no_torch(runs: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    told = told_by(TELL, *(word.replace("RUNS", str(runs)).replace("OUT", str(tmp_path / "out")) for word in arguments))
    assert told["code"] == (2 if arguments[0] == "check" else 0), told["stderr"]
    assert not HEAVY & set(told["modules"])


def test_comparing_stores_imports_no_torch(tmp_path: Path) -> None:
    told = told_by(TELL, "compare", tmp_path, tmp_path)
    assert told["code"] == 2
    assert not HEAVY & set(told["modules"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("backbone", "resnet19"),
        ("detector", "padin"),
        ("estimator", "fulll"),
        ("dataset", "nope"),
        ("reduction", "x"),
        ("augment", "x"),
        ("tta", "flip,x"),
        ("resize", "x"),
        ("sigma", "x"),
        ("n-components", "0"),
        ("memory", "much"),
        ("seed", "x"),
        ("nope", "x"),
        ("detector", "padim(nope=1)"),
        ("detector", "padim(levels=1)"),
        ("detector", "mahalanobis-ad(sigma=1)"),
        ("estimator", "shrinkage(nope=1)"),
        ("precision", "float61"),
        ("device", "tpu"),
        ("device", "cuda:x"),
        ("layers", "stage1,nope"),
        ("layers", "stage1,stage1"),
        ("detector", "padim(n_components=-1)"),
        ("detector", "padim(sigma=-1)"),
        ("detector", "patchcore(seed=-1)"),
        ("detector", "padim(trim_patches=0.5)"),
        ("fpr", "2"),
        ("fpr", "0.001"),
        ("roi", "nope"),
    ],
)
def test_a_refused_option_imports_no_torch(tmp_path: Path, option: str, value: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    told = told_by(TELL, "fit", tmp_path, "-o", tmp_path / "model.safetensors", f"--{option}", value)
    assert told["code"] == 2
    assert not HEAVY & set(told["modules"])
    assert value in told["stderr"] or option in told["stderr"]


def test_all_devices_of_torch_are_taken() -> None:
    with pytest.raises(RuntimeError, match="Expected one of") as refused:
        torch.device("nope")
    of_torch = str(refused.value).partition("Expected one of ")[2].partition(" device type")[0].split(", ")
    without_tensors = {"mkldnn", "opengl", "opencl", "ideep", "meta"}
    assert "cuda" in of_torch
    assert set(of_torch) - without_tensors <= set(DEVICES)


@pytest.mark.parametrize(
    ("spec", "layers"),
    [("padim(n_components=4, sigma=2.5, bit_depth=8, resize=64)", "stage1"), ("patchcore(seed=3)", "stage3,stage1")],
)
def test_what_is_no_nonsense_is_not_refused(tmp_path: Path, spec: str, layers: str) -> None:
    options = ("--detector", spec, "--layers", layers, "--device", "cpu")
    told = told_by(TELL, "fit", tmp_path / "nope", "-o", tmp_path / "model.safetensors", *options)
    assert f"{tmp_path / 'nope'}" in told["stderr"]  # the images are looked for next


@pytest.mark.parametrize("name", [n for n, record in read_catalog("backbone").records.items() if not record["stages"]])
def test_layers_of_the_catalog_are_all(name: str) -> None:
    layers = read_catalog("backbone").records[name]["layers"]
    with pytest.raises(InputError, match=f"expected one or more of {', '.join(layers)}, each once$"):
        registry.backbones.create(name, layers=["nope"])


@pytest.mark.parametrize(
    "arguments",
    [
        *(f"{command} nope IMAGE" for command in ("predict", "update --in-place", "forget --in-place")),
        *(f"{command} nope" for command in ("calibrate --fpr 0.1", "export --format onnx", "evaluate --normal IMAGE")),
        *("merge nope nope -o new", "merge FILE -o new", "combine nope FILE -o new"),
        *("fit nope -o new", "data suspects nope", "update FILE nope --in-place", "forget FILE IMAGE"),
        *("predict FILE IMAGE --colormap nope", "predict FILE IMAGE --roi nope", "evaluate FILE --pictures overlay"),
        "evaluate FILE --normal IMAGE --roi nope",
        *("calibrate FILE --fpr 2", "update FILE IMAGE --in-place --fpr 2"),
    ],
)
def test_a_refused_file_imports_no_torch(tmp_path: Path, arguments: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    (tmp_path / "file").write_bytes(bytes(8))
    names = {"IMAGE": tmp_path / "image.png", "FILE": tmp_path / "file", "new": tmp_path / "new"}
    told = told_by(TELL, *(names.get(word, word) for word in arguments.split()))
    assert told["code"] == 2
    assert told["stderr"].startswith("Error: ")
    assert len(told["stderr"].splitlines()) == 2
    assert not HEAVY & set(told["modules"])


@pytest.mark.parametrize(
    "command",
    [
        *("fit IMAGE -o new", "predict FILE IMAGE", "evaluate FILE --normal IMAGE", "bench -o new"),
        *("update FILE IMAGE -o new", "forget FILE IMAGE -o new", "calibrate FILE -o new", "combine FILE FILE -o new"),
        *("export FILE --format onnx", "merge FILE FILE -o new", "data suspects IMAGE"),
    ],
)
@pytest.mark.parametrize("name", ["PRECISION", "RUNTIME", "CACHE_LIMIT"])
def test_nonsense_in_the_environment_imports_no_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    (tmp_path / "file").write_bytes(bytes(8))
    names = {"IMAGE": tmp_path / "image.png", "FILE": tmp_path / "file", "new": tmp_path / "new"}
    monkeypatch.setenv(f"PADIM_ZOO_{name}", "nope")
    told = told_by(TELL, *(names.get(word, word) for word in command.split()))
    assert told["code"] == 2
    assert told["stderr"].startswith("Error: ")
    assert f"PADIM_ZOO_{name} is 'nope'" in told["stderr"]
    assert len(told["stderr"].splitlines()) == 2
    assert not HEAVY & set(told["modules"])


@pytest.mark.parametrize("command", ["predict", "fit", "bench", "update"])
def test_help_imports_no_numpy(command: str) -> None:
    assert not {"numpy", *HEAVY} & set(told_by(TELL, command, "--help")["modules"])


@pytest.mark.parametrize("names", [("backbones", "nope"), ("estimators", "full,nope"), ("dataset", "nope")])
def test_bench_refuses_unknown_names_without_torch(tmp_path: Path, names: tuple[str, str]) -> None:
    told = told_by(TELL, "bench", "--output", tmp_path, f"--{names[0]}", names[1])
    assert told["code"] == 2
    assert "unknown" in told["stderr"]
    assert not HEAVY & set(told["modules"])


def test_a_plain_leaderboard_imports_only_what_it_shows(runs: Path) -> None:
    told = told_by(TELL, "leaderboard", runs)
    assert told["code"] == 0
    unused = {"padim_zoo.bench." + name for name in ("measure", "published", "compare", "board_tables", "live")}
    assert not (unused | {"psutil", "padim_zoo.registry.registry"}) & set(told["files"])


def test_a_leaderboard_takes_little_more_than_pandas(runs: Path) -> None:
    """Of processor time, the least of five, in turn with pandas alone: 1.9 times were seen, and torch takes four."""
    board, pandas = zip(*((told_by(TELL, "leaderboard", runs), told_by(PANDAS)) for _ in range(5)), strict=True)
    assert all(told["code"] == 0 for told in board)
    assert min(told["seconds"] for told in board) < 3 * min(told["seconds"] for told in pandas)
    assert min(told["megabytes"] for told in board) < min(told["megabytes"] for told in pandas) + 60


@pytest.mark.parametrize("command", [(), ("bench",), ("fit",)])
def test_help_comes_at_once(command: tuple[str, ...]) -> None:
    """Of processor time: other work on the machine does not count; and a slow machine starts Python slowly, too."""

    def seconds(code: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", code, *command, "--help"], check=True, capture_output=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    runs = [(seconds("from padim_zoo.cli.main import main; main()"), seconds("")) for _ in range(3)]
    told, bare = map(min, zip(*runs, strict=True))
    assert told < max(0.3, 12 * bare)
