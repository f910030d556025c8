"""What bench and leaderboard show on a terminal: a pseudo-terminal of 110 columns and 30 lines."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from padim_zoo import registry

pty = pytest.importorskip("pty")
PLUGIN = Path(__file__).parents[1] / "bench" / "toy_zoo.py"


class Terminal:
    """A command on a terminal of its own; ``text`` is what it has written, without colors and movements."""

    def __init__(self, *arguments: object) -> None:
        ours, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": "110", "LINES": "30", "TERM": "xterm-256color"}
        code = "from padim_zoo.cli.main import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
        )
        os.close(theirs)
        self.written = b""
        self.reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self.reader.start()

    def _read(self, descriptor: int) -> None:
        while True:
            try:
                found = os.read(descriptor, 65536)
            except OSError:  # Linux says so when the other side is closed
                found = b""
            if not found:
                return
            self.written += found

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written.decode("utf-8", "replace")).replace("\r", "")

    def wait_for(self, condition: Callable[[str], bool]) -> None:
        until = time.monotonic() + 300
        while not condition(self.text):
            assert time.monotonic() < until, self.text
            assert self.process.poll() is None, self.text
            time.sleep(0.02)

    def end(self) -> int:
        code = self.process.wait(300)
        self.reader.join(60)
        return code


def test_a_live_table_and_someone_who_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in registry.REGISTRIES.values():
        kind.names()
        monkeypatch.setattr(kind, "_entries", dict(kind._entries))
    registry.load_plugin(PLUGIN)
    monkeypatch.chdir(tmp_path)  # so that names are short, and no line is broken
    root = sys.modules["padim_zoo_plugin_toy_zoo"].make_images(tmp_path / "images")
    runs, gate = Path("runs"), tmp_path / "gate"
    gate.write_text("3")
    watch = Terminal("leaderboard", runs, "--watch")
    watch.wait_for(lambda text: "holds no run yet" in text)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("TOY_GATE", str(gate))
    options = ["--dataset", "mvtec", "--data-root", root, "--detectors", "toy", "--backbones", "toy-linear"]
    options += ["--resize", "none", "--crop", "none", "--estimators", "full,tied"]
    bench = Terminal("bench", "--plugin", PLUGIN, *options, "--output", runs)
    watch.wait_for(lambda text: re.search(r"[0-3] of 4 runs", text) is not None)
    gate.write_text("4")
    assert bench.end() == 0, bench.text
    assert watch.end() == 0, watch.text
    for text in (bench.text, watch.text):
        assert "▶" in text
        assert "categories" in text
        assert re.search(r"[0-3] of 4 runs", text)
        assert re.search(r"(alpha|beta) toy toy-linear (full|tied) seed 0", text)
        final = text[text.rindex("category  ") :]
        # The notes below the table name configurations too: at the start of a line they have one space after the name.
        assert [len(re.findall(rf"^{name}  ", final, re.MULTILINE)) for name in ("alpha", "beta", "mean")] == [2, 2, 2]
        assert "━" in final
    assert f"runs in {runs}; next: padim-zoo report {runs}" in bench.text.replace("\n", "")
    assert not list(runs.glob(".*"))


def test_ctrl_c_ends_watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    watch = Terminal("leaderboard", "none", "--watch")
    watch.wait_for(lambda text: "waiting for one" in text)
    watch.process.send_signal(signal.SIGINT)
    assert watch.end() == 130
    assert "Traceback" not in watch.text
    assert not (tmp_path / "none").exists()
