from __future__ import annotations

import math
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from padim_zoo.bench.store import FORMAT, DamagedRunError, RunStore
from padim_zoo.core.errors import InputError


def document(run_id: str = "ab", **changes: object) -> dict[str, object]:
    return {
        "format": FORMAT,
        "id": run_id,
        "status": "done",
        "config": {"dataset": "d", "category": "c", "detector": "padim", "seed": 0, "folds": 0},
        "folds": [{"image_auroc": 0.5, "aupro": math.nan}],
        "timings": {"fit_seconds": math.inf},
        "notes": [],
        **changes,
    }


def test_what_is_written_is_read(tmp_path):
    store = RunStore(tmp_path / "new" / "runs")
    arrays = {"scores": np.arange(6, dtype=np.float32).reshape(2, 3), "mean": np.array(3.5)}
    assert store.read("ab") is None
    store.write(document(), arrays, {"about": np.ones((1, 2), dtype=np.uint8)[:, ::-1]})
    found = store.read("ab")
    assert found["folds"][0]["image_auroc"] == 0.5
    assert math.isnan(found["folds"][0]["aupro"])
    assert math.isnan(found["timings"]["fit_seconds"])
    for name, array in store.scores("ab").items():
        np.testing.assert_array_equal(array, arrays[name], strict=True)
    assert store.gallery("ab")["about"].shape == (1, 2)


def test_nothing_but_finished_files_is_left(tmp_path):
    store = RunStore(tmp_path)
    store.write(document(), {"scores": np.zeros(2)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ab.json", "ab.safetensors"]
    with pytest.raises(TypeError):
        store.write(document(notes=object()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ab.json", "ab.safetensors"]


def test_the_document_appears_last(tmp_path, monkeypatch):
    order = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (order.append(target.name), replace(source, target)))
    RunStore(tmp_path).write(document(), {"scores": np.zeros(2)}, {"about": np.zeros(2)})
    assert order == ["ab.gallery.safetensors", "ab.safetensors", "ab.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b'{"format": 1, "id"', b"[]", b"{}", b"\xff\xfe", b'{"format": 99}', b'{"format": 1, "id": 3, "config": {}}'],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, content):
    store = RunStore(tmp_path)
    store.write(document("cd"))
    (tmp_path / "ab.json").write_bytes(content)
    with pytest.raises(DamagedRunError, match=r"ab\.json") as error:
        store.read("ab")
    assert "\n" not in str(error.value)
    contents = store.read_all()
    assert [found["id"] for found in contents.documents] == ["cd"]
    assert len(contents.problems) == 1
    assert store.completed("ab") is None


@pytest.mark.parametrize(
    "changes",
    [{"folds": [3]}, {"folds": [{"image_auroc": "high"}]}, {"timings": {"fit_seconds": []}}, {"status": "odd"}],
)
def test_a_document_of_wrong_types_is_damaged(tmp_path, changes):
    RunStore(tmp_path).write(document(**changes))
    with pytest.raises(DamagedRunError, match=r"ab\.json"):
        RunStore(tmp_path).read("ab")


def test_another_format_is_refused(tmp_path):
    RunStore(tmp_path).write(document(format=1))
    with pytest.raises(DamagedRunError, match="format 1, and this version reads format 2"):
        RunStore(tmp_path).read("ab")


def test_temporary_files_of_dead_processes_alone_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    names = {
        f".{host}.{dead.pid}.0123.tmp": False,
        f".{host}.{os.getpid()}.0123.tmp": True,
        f".ab.json.{host}.{dead.pid}.0123.tmp": False,
        f".ab.json.{host}.{os.getpid()}.0123.tmp": True,
        f".elsewhere.{dead.pid}.0123.tmp": True,
        "notes.tmp": True,
    }
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    RunStore(tmp_path).clean()
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_store_must_be_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        RunStore(tmp_path / "file")
    with pytest.raises(InputError, match="there is no run store"):
        RunStore(tmp_path / "none").read_all()


def test_a_flipped_bit_of_a_run_is_told(tmp_path):
    store = RunStore(tmp_path)
    store.write(document(), {"scores": np.arange(6.0)}, {"about": np.ones(3)})
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for position in np.random.default_rng(0).integers(0, len(whole), 30).tolist():
            spoilt = bytearray(whole)
            spoilt[position] ^= 4
            path.write_bytes(spoilt)
            if path.suffix == ".json":
                try:  # a flip within white space, say, changes nothing
                    found = store.read("ab")
                except DamagedRunError:
                    continue
                path.write_bytes(whole)
                assert str(found) == str(store.read("ab"))
            else:
                with pytest.raises(DamagedRunError):
                    store.gallery("ab") if "gallery" in path.name else store.scores("ab")
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "change",
    [
        *({"config": {}}, {"config": {"dataset": 3}}, {"notes": [3]}, {"status": "failed"}, {"folds": []}),
        *({"folds": [{"image_auroc": 10**400}]}, {"timings": {"fit_seconds": True}}),
    ],
)
def test_documents_that_make_no_sense_are_named_and_left_out(tmp_path, change):
    store = RunStore(tmp_path)
    store.write(document("aa"))
    store.write({**document(), **change})
    contents = store.read_all()
    assert [each["id"] for each in contents.documents] == ["aa"]
    [problem] = contents.problems
    assert "ab.json is not a run document" in problem


def test_a_document_that_is_written_again_keeps_the_hashes_of_its_arrays(tmp_path):
    store = RunStore(tmp_path)
    store.write(document(), {"scores": np.zeros(2)})
    store.write(store.read("ab") | {"notes": ["another"]})
    assert store.read("ab")["notes"] == ["another"]
    assert store.scores("ab")["scores"].shape == (2,)
