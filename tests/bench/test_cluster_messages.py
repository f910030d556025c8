"""What a worker of a cluster is asked, does and refuses; here in this process."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("distributed", reason="needs the extra dask")

from padim_zoo import registry
from padim_zoo.bench.executors import cluster, task
from padim_zoo.bench.executors.cluster import connect
from padim_zoo.bench.executors.messages import (
    Reply,
    first_difference,
    plugins_to_json,
    runs_from_json,
    runs_to_json,
    suite_to_json,
)
from padim_zoo.bench.executors.versions import describe_versions, difference
from padim_zoo.bench.plan import groups, make_plan
from padim_zoo.bench.shard import runs_of_shard, split_groups
from padim_zoo.bench.suite import Suite
from padim_zoo.core.errors import InputError


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker process that has done nothing yet, and nothing of it after the test."""
    loaded, threads = task._Loaded(), torch.get_num_threads()
    monkeypatch.setattr(task, "LOADED", loaded)
    yield
    for plugin in reversed(loaded.plugins):
        plugin.take_back()
    torch.set_num_threads(threads)


def asked(suite: Suite, **changes: Any) -> dict[str, Any]:
    """The request for the first group of a suite, as it arrives."""
    request = {
        "suite": suite_to_json(suite),
        "plugins": plugins_to_json(suite.plugin),
        "versions": describe_versions(),
        "precision": None,
        "runtime": "torch",
        "runs": runs_to_json(groups(make_plan(suite))[0]),
    }
    return json.loads(json.dumps(request | changes))


def do(request: dict[str, Any], most: int = 99) -> Reply:
    begun: list[str] = []
    reply = task.reply_to(request, 1, lambda: len(begun) < most, lambda run: begun.append(run.id))
    return Reply.from_message(
        json.loads(json.dumps(reply.to_message(), default=lambda content: content.decode("latin1")))
    )


def test_runs_and_suites_survive_the_way(suite: Suite) -> None:
    full = suite.replace(
        backbones=("builtin",),
        detectors=("padim",),
        ensemble=("builtin:full+builtin:oas",),
        resize=(24, 32),
        folds=2,
        train_sizes=(4, None),
    )
    plan = make_plan(full).runs
    sent = runs_from_json(json.loads(json.dumps(runs_to_json(plan))))
    assert sent == plan
    assert [run.id for run in sent] == [run.id for run in plan]
    again = Suite(**json.loads(json.dumps(suite_to_json(full))))
    assert again == full.replace(plugin=(), output=again.output)


def test_a_group_is_done_until_nobody_wants_it(suite: Suite, worker: None) -> None:
    request = asked(suite.replace(estimators=("full", "tied", "diagonal")))
    assert [len(do(request, most).recorded) for most in (0, 2, 99)] == [0, 2, 3]


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"versions": describe_versions().replace(torch.__version__, "1.0")}, "its versions differ, torch"),
        ({"precision": "bfloat16"}, "it has no fast bfloat16"),
    ],
)
def test_what_a_worker_cannot_do_it_refuses(
    suite: Suite, worker: None, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], refusal: str
) -> None:
    monkeypatch.setattr(task, "has_fast_bfloat16", lambda device: False)
    reply = do(asked(suite, **changes))
    assert reply.refusal is not None
    assert reply.refusal.startswith(refusal)
    assert not reply.recorded


def test_auto_is_what_the_client_says(suite: Suite, worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PADIM_ZOO_PRECISION")
    monkeypatch.setattr("padim_zoo.backbones.device.has_fast_bfloat16", lambda device: True)
    suite = suite.replace(backbones=("builtin",), detectors=("padim",), resize=(24, 24), gallery=False)
    [(_, files)] = do(asked(suite, precision="float32")).recorded
    assert json.loads(files[".json"])["precision"] == "float32"


def test_the_runtime_is_what_the_client_says(suite: Suite, worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("PADIM_ZOO_RUNTIME", "auto")
    suite = suite.replace(backbones=("builtin",), detectors=("padim",), resize=(24, 24), gallery=False)
    for runtime in ("torch", "onnx"):
        [(_, files)] = do(asked(suite, runtime=runtime)).recorded
        assert json.loads(files[".json"])["runtime"] == runtime
    assert os.environ["PADIM_ZOO_RUNTIME"] == "auto"


def test_other_data_is_refused_with_its_files(suite: Suite, worker: None, toys: Any, tmp_path: Path) -> None:
    request, own = asked(suite), suite.open_dataset().load("alpha").manifest()
    (suite.data_root / "alpha" / "train" / "good" / "004.png").unlink()
    reply = do(request)
    assert reply.refusal == "its copy of the data differs"
    assert reply.manifest is not None
    assert first_difference(own, reply.manifest) == "train/good/004.png is train/good/005.png"


def test_the_first_difference_is_named() -> None:
    lines = [("train", 0, "a", "1"), ("train", 0, "b", "2")]
    assert first_difference(lines, lines[:1]) == "b is missing there"
    assert first_difference(lines[:1], lines) == "b is there alone"
    assert first_difference(lines, [lines[0], ("train", 0, "b", "3")]) == "b has other content or another label there"


def test_plugins_of_two_clients_do_not_meet(suite: Suite, worker: None, tmp_path: Path) -> None:
    """Both register a detector of one name; each gets its own, and the code that its runs name."""
    text = suite.plugin[0].read_text()
    theirs = tmp_path / "theirs" / suite.plugin[0].name
    theirs.parent.mkdir()
    theirs.write_text(text.replace("+ 0.01", "+ 0.5"))
    mine = asked(suite)
    loaded = registry.load_plugin(theirs)
    other = asked(suite.replace(plugin=(theirs,)))
    loaded.take_back()
    scores = [do(request).recorded[0][1][".safetensors"] for request in (mine, other, mine)]
    assert scores[0] == scores[2] != scores[1]
    assert mine["runs"][0]["config"]["plugins"] != other["runs"][0]["config"]["plugins"]


def test_groups_are_cut_where_there_are_few(suite: Suite) -> None:
    [group] = groups(make_plan(suite.replace(estimators=("full", "tied"), seeds=(0, 1, 2))))
    assert len(group) == 6
    assert split_groups([group], 2) == [group[:2], group[2:]]
    for workers, each, sizes in (
        (3, 5, [2, 2, 2]),
        (5, 1, [1, 1, 1, 1, 2]),
        (8, 2, [1] * 6),
    ):  # estimators share a pass
        parts = split_groups([group], workers, each)
        assert [run for part in parts for run in part] == group
        assert sorted(map(len, parts)) == sizes


def test_nothing_is_cut_of_no_groups() -> None:
    assert split_groups([], 2) == []
    with pytest.raises(InputError, match="no runs to take shard 1/2 of"):
        runs_of_shard([], "1/2")


def test_versions_that_differ_are_one_line() -> None:
    own = json.dumps({"torch": "2", "padim-zoo": "1"})
    assert difference(own, own) is None
    assert difference(own, json.dumps({"torch": "3"})) == "padim-zoo none there and 1 here, torch 3 there and 2 here"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://10.1.2.3:8786", "not encrypted.*--tls-ca-file.*--insecure"),
        ("tcp://scheduler:8786", "not encrypted"),
        ("file:nowhere.json", "cannot read the scheduler file nowhere.json"),
        ("tcp://127.0.0.1", "is not an address: expected tcp://HOST:PORT"),
        ("tcp://127.0.0.1:9", r"^nothing answers at tcp://127\.0\.0\.1:9: is dask scheduler running there\?$"),
        ("tls://127.0.0.1:9", r"^nothing answers at tls://127\.0\.0\.1:9: is dask scheduler running there\?$"),
    ],
)
def test_addresses_that_are_refused(address: str, message: str) -> None:
    with pytest.raises(InputError, match=message), connect(address, insecure=False, jobs=1, note=print):
        pass


def test_a_client_without_certificates_is_told_at_once() -> None:
    import distributed  # noqa: F401  which takes longer, the first time

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tls://127.0.0.1:{server.getsockname()[1]}"
        started = time.monotonic()
        with (
            pytest.raises(InputError, match=r"no certificate is named here.*distributed\.comm\.tls"),
            connect(address, insecure=False, jobs=1, note=print),
        ):
            pass
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(("greeting", "message"), [(b"", "no scheduler spoke"), (b"SSH-2.0-x\r\n", "another protocol")])
def test_a_port_that_is_no_scheduler_is_told_soon(greeting: bytes, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):  # when the server is closed
                while True:
                    accepted.append(server.accept()[0])
                    accepted[-1].sendall(greeting)

        accepted: list[socket.socket] = []
        threading.Thread(target=accept, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        started = time.monotonic()
        expected = rf"^cannot connect to the cluster {address} \(it .*{message}.*\): expected the address"
        with pytest.raises(InputError, match=expected), connect(address, insecure=False, jobs=1, note=print):
            pass
        assert time.monotonic() - started < 120
        for connection in accepted:
            connection.close()


def test_an_address_of_no_kind_is_refused() -> None:
    with pytest.raises(InputError, match="cluster is 'http://x': expected the address of a Dask cluster, local"):
        Suite(cluster="http://x")


WITHOUT_BOKEH = b"<p>Dask needs bokeh>=3.1.0 for the dashboard.</p>"


@pytest.mark.parametrize(
    ("status", "page", "is_there"),
    [(200, b"<html>", True), (200, WITHOUT_BOKEH, False), (404, b"", False), (None, b"", False)],
)
def test_a_dashboard_is_named_where_one_answers(status: int | None, page: bytes, is_there: bool) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status or 500)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        link = f"http://127.0.0.1:{server.server_port}/status"
        if status is not None:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        else:
            server.server_close()
        assert cluster._dashboard_of(SimpleNamespace(dashboard_link=link)) == (link if is_there else None)
        if status is not None:
            server.shutdown()
    assert cluster._dashboard_of(SimpleNamespace(dashboard_link=None)) is None
    assert cluster._dashboard_of(SimpleNamespace()) is None
