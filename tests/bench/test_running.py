"""A running benchmark tells others how far it is, and they can follow it."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from padim_zoo.bench import running
from padim_zoo.bench.executors.executor import Event
from padim_zoo.bench.live import draw_progress, draw_standings, standings
from padim_zoo.bench.run import Run, RunConfig
from padim_zoo.bench.running import BenchState, StoreWatcher, heartbeat, read_states
from padim_zoo.bench.store import FORMAT, RunStore
from padim_zoo.cli import watching
from padim_zoo.core.progress import duration, stage

_SECONDS = 60.0
"""That a busy machine may take for what another takes none for."""


def run(category: str, backbone: str) -> Run:
    return Run(
        RunConfig(
            dataset="mvtec",
            category=category,
            data=category,
            detector="padim",
            backbone=backbone,
            weights_hash="0",
            layers=("layer1",),
            n_components=100,
            estimator="full",
            seed=0,
            folds=1,
        )
    )


def document(of: Run, auroc: float | None) -> dict[str, Any]:
    """Of a run that is done, or has failed without a figure."""
    failed = auroc is None
    return {
        "format": FORMAT,
        "id": of.id,
        "status": "failed" if failed else "done",
        "config": of.config.to_dict(),
        "weights": "default",
        "folds": [] if failed else [{"image_auroc": auroc, "pixel_auroc": auroc, "aupro": auroc}],
        "timings": {},
        "notes": [],
        "error": {"type": "E", "message": "no such layer", "traceback": ""} if failed else None,
    }


def text_of(shown: Any, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(shown)
    return file.getvalue()


def test_state_is_told_while_a_benchmark_runs(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    first, second = run("bottle", "a"), run("bottle", "b")
    with heartbeat(store, BenchState(total=5, before=2, done=2)) as sign:
        assert read_states(store.folder) == []  # nothing is made before the first run
        sign.take(Event(first))
        [state] = read_states(store.folder)
        assert (state.done, state.total, state.alive) == (2, 5, True)
        assert list(state.running.values()) == ["bottle padim a full seed 0"]
        sign.take(Event(second))
        sign.take(Event(first, document(first, 0.9)))
        sign.take(Event(second, document(second, None)))
        [state] = read_states(store.folder)
        assert (state.done, state.failed, state.running) == (4, 1, {})
        state.informed = state.started + 10  # two runs took ten seconds, one is left
        left = [state.seconds_left(state.informed + seconds) for seconds in (0, 1, 4, 9)]
        assert left == [5, 4, 1, 0]  # it never grows without news
        assert store.read_all().problems == []
    assert list(store.folder.iterdir()) == []


def test_what_a_run_is_at_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "FOLLOW_SECONDS", 0.01)
    store = RunStore(tmp_path / "runs")
    with heartbeat(store, BenchState(total=5)) as sign:
        sign.take(Event(run("bottle", "a")))
        with stage("reading images", 8) as progress:
            progress.advance(3)
            until = time.monotonic() + _SECONDS
            while not any(read_states(store.folder)[0].doing.values()):
                assert time.monotonic() < until
        [state] = read_states(store.folder)
        assert list(state.doing.values()) == ["reading images: 3 of 8 images"]
        sign.take(Event(run("bottle", "a"), doing="computing: 5 of 9 patches"))
        assert list(read_states(store.folder)[0].doing.values()) == ["computing: 5 of 9 patches"]


def test_a_store_that_cannot_be_written_to_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = RunStore(tmp_path / "file" / "runs")
    with heartbeat(store, BenchState(total=1)) as sign:
        sign.take(Event(run("bottle", "a")))
    assert sign.state.running


def test_signs_of_the_dead_are_known_and_removed(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    for state in (
        BenchState(3, pid=int(process.stdout)),
        BenchState(3),
        BenchState(3, pid=int(process.stdout), host="x"),
    ):
        with heartbeat(store, state) as sign:
            sign.take(Event(run("bottle", "a")))
            content = sign.path.read_bytes()
        sign.path.write_bytes(content)
    # A process that began after the benchmark only has its number.
    assert not BenchState(3, started=0.0).alive
    assert [state.alive for state in read_states(tmp_path)] == [False, True, True]
    store.clean()
    assert {state.pid for state in read_states(tmp_path) if state.host != "x"} == {os.getpid()}
    (tmp_path / ".x.1.bench").write_text("[1")
    (tmp_path / ".x.2.bench").write_text('{"color": "red"}')
    whole = next(tmp_path.glob(f".x.{int(process.stdout)}.bench")).read_text()
    for number, (name, value) in enumerate([("pid", "many"), ("started", None), ("running", [1]), ("done", "3")]):
        broken = json.dumps({**json.loads(whole), "host": socket.gethostname(), name: value})
        (tmp_path / f".x.{3 + number}.bench").write_text(broken)
    ours = f".{socket.gethostname()}."
    for pid in ("many", "²", "9" * 30):
        (tmp_path / f"{ours}{pid}.bench").write_text("{}")
    store.clean()
    assert len(read_states(tmp_path)) == 2
    assert [state.alive for state in read_states(tmp_path)] == [True, True]


def test_a_follower_reads_each_document_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from padim_zoo.bench import running

    reads: list[str] = []
    read = running.read_document
    monkeypatch.setattr(running, "read_document", lambda path: reads.append(path.name) or read(path))
    store = RunStore(tmp_path / "runs")
    follower = StoreWatcher(store.folder)
    assert not follower.poll()  # the folder is not there yet
    runs = [run("bottle", name) for name in "abc"]
    for one in runs[:2]:
        store.write(document(one, 0.5))
    assert follower.poll()
    assert not follower.poll()
    store.write(document(runs[2], None))
    (store.folder / "notes.json").write_text("{")
    store.write(document(runs[0], 0.75))
    assert follower.poll()
    assert sorted(reads) == sorted([f"{one.id}.json" for one in (*runs, runs[0])] + ["notes.json"])
    assert sorted(follower.documents, key=lambda d: d["id"]) == store.read_all().documents
    assert not follower.over


def test_standings_are_means_of_configurations_best_first() -> None:
    figures = {"a": (0.8, 0.9), "b": (0.9, 0.95), "c": (0.99, None)}
    documents = [
        document(run(name, b), v) for b, values in figures.items() for name, v in zip("xy", values, strict=True)
    ]
    board, figure = standings(documents)
    assert figure == "image_auroc"
    assert board["backbone"].tolist() == ["b", "a", "c"]  # c has one category, however good
    assert board["image_auroc"].tolist() == pytest.approx([0.925, 0.85, 0.99])
    printed = text_of(draw_standings(documents, 20))
    [best] = [line for line in printed.splitlines() if "▶" in line]
    assert "0.925*" in best
    assert "categories" in printed
    short = text_of(draw_standings([document(run("x", f"net{i:02}"), i / 50) for i in range(40)], 12))
    assert len(short.splitlines()) <= 12
    assert "net39" in short  # the best are kept
    assert "more rows" in short
    assert text_of(draw_standings([], 20)).strip() == ""


def test_progress_in_words() -> None:
    state = BenchState(total=12, before=2, done=7, failed=1, running={"1": "bottle a", "2": "bottle b"}, started=1000.0)
    state.informed, state.doing = 1100.0, {"1": "reading images: 3 of 8 images"}
    printed = text_of(draw_progress(state, now=1100.0))
    line = " 7 of 12 runs · 1 failed · 1 min 40 s · about 1 min 40 s left"
    assert printed.splitlines() == ["━" * 14 + "·" * 10 + line, "bottle a · reading images: 3 of 8 images and 1 more"]
    assert max(map(len, text_of(draw_progress(state, now=1100.0), width=40).splitlines())) <= 40
    words = {0: "0 s", 0.2: "1 s", 59.5: "1 min 0 s", 61: "1 min 1 s", 3599: "59 min 59 s", 7500: "2 h 5 min"}
    assert {seconds: duration(seconds) for seconds in words} == words


@pytest.mark.parametrize("killed", [False, True])
def test_watch_waits_for_a_benchmark_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(watching, "EVERY", 0.01)
    folder = tmp_path / "runs"
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    shown: list[int] = []
    seen, waiting, ended = threading.Event(), threading.Event(), threading.Event()

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            if "waiting for one" in text:
                waiting.set()
            return super().write(text)

    def draw(documents: Any, max_lines: int) -> Text:
        shown.append(len(documents))
        assert 0 < max_lines < 20
        seen.set()
        return Text(f"{len(documents)} rows")

    def bench() -> None:
        waiting.wait(_SECONDS)
        store = RunStore(folder)
        with heartbeat(store, BenchState(total=2, pid=process.pid)) as sign:
            for name in "ab":
                one = run("bottle", name)
                sign.take(Event(one))
                store.write(document(one, 0.9))
                sign.take(Event(one, document(one, 0.9)))
                seen.wait(_SECONDS)
                seen.clear()
            if killed:
                process.kill()
                process.wait()
                ended.wait(_SECONDS)  # the file of the dead stays, as it does where all of a benchmark is killed

    thread = threading.Thread(target=bench)
    thread.start()
    file = Screen()
    console = Console(
        file=file, width=500, height=20, force_terminal=True, color_system=None
    )  # for a path of any length
    follower = watching.watch(folder, draw, console)
    ended.set()
    thread.join()
    if not killed:
        process.communicate(b"\n")
    assert shown == [1, 2]
    assert len(follower.documents) == 2
    assert [state.pid for state in follower.died] == [process.pid] * killed
    assert "waiting for one" in file.getvalue()
    assert "2 rows" in file.getvalue()
