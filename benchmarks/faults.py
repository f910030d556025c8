"""Attacks padim-zoo with made files, and counts what comes of it; exits with 1 if anything bad does.

python benchmarks/faults.py [--seed 1] [--minutes 8] [--cases 1000] [--only KIND] [--in-turn]
"""

from __future__ import annotations

import errno
import importlib
import itertools
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parent.parent))

from script_options import Parser, above, whole

from padim_zoo.core.atomic_write import write_text_whole
from tests.faults import disk
from tests.faults.cases import Case, cases
from tests.faults.harness import ABOVE_BYTES, SECONDS, Outcome, command, fork, scores_in
from tests.faults.world import make_world
from tests.faults.writers import Writer, writers

COLUMNS = (
    *("tried", "refused", "accepted", "other scores", "traceback", "crash", "hang", "memory", "touched"),
    "half written",
)
BAD = COLUMNS[3:]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
_FOLDER = "FAULTS_FOLDER"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
WRITING_EVERY = 6
"""One in so many cases is a command on a disk that fails, or one that a signal ends."""
PRELOADED = (
    *("detectors.loading", "export.runtimes", "importers", "bench.leaderboard", "bench.schedule", "report.page"),
    *("cli.predict", "cli.fit", "cli.evaluate", "cli.bench", "cli.update", "data.validate"),
)


class Attack:
    """The world, what commands give of it while it is whole, and the table."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.rng = folder, seed, random.Random(seed)
        self.world, self.room = folder / "world", folder / "room"
        self.cache, self.log = folder / "cache", folder / "log"
        self.pwned = folder / "pwned"
        os.environ["PADIM_ZOO_CACHE"] = str(self.cache)
        made = fork(lambda: make_world(self.world), self.log, 300)
        if made.code != 0:
            raise SystemExit(f"the files were not made: {made.output}")
        self.usual: dict[str, Outcome] = {}
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.number = 0
        self.ordinary = self._usual(["predict", self.world / "model.safetensors", self.world / "images"])

    def run(self, most: int, deadline: float, only: str) -> None:
        """Try cases until there were so many, or the time is over."""
        writing = self._writing(only) if disk.preloaded() else []
        order = itertools.cycle(writing)
        for case in cases(self.world, self.cache, self.room, self.pwned, self.rng):
            if self.number >= most or time.monotonic() > deadline:
                return
            if writing and (only or self.number % WRITING_EVERY == WRITING_EVERY - 1):
                next(order)()
                self._draw_anew()
            if case.kind.startswith(only):
                self.on_spoilt_file(case)
            self._draw_anew()

    def in_turn(self, most: int, deadline: float, only: str) -> None:
        """Let each call that writes fail, one after the other, with each error, until that is done or it is time."""
        for writer in writers(self.world):
            if not f"disk: {writer.name}".startswith(only):
                continue
            _, n_calls, whole = self._call_of(writer)
            for call, error, stays in itertools.product(range(1, n_calls + 1), ERRORS, (False, True)):
                if self.number >= most or time.monotonic() > deadline:
                    return
                writer.prepare()
                self._fail_at(writer, call, n_calls, error, stays, whole)

    def _writing(self, only: str) -> list[Callable[[], None]]:
        """What is done to commands that write, in an order of the seed."""
        attacks = {"disk": self.on_failing_disk, "signal": self.at_a_signal}
        chosen: list[Callable[[], None]] = [
            partial(attack, writer)
            for writer in writers(self.world)
            for kind, attack in attacks.items()
            if f"{kind}: {writer.name}".startswith(only)
        ]
        random.Random(self.seed).shuffle(chosen)
        return chosen

    def _draw_anew(self) -> None:
        """Seed by the case, for how much one draws depends on sizes and counts that another machine has not."""
        self.rng.seed(f"{self.seed} {self.number}")

    def on_spoilt_file(self, case: Case) -> None:
        """Try one case, and bring the world back to what it was."""
        usual = self.ordinary if case.file is None else self._usual(case.arguments)
        whole = None if case.file is None else case.file.read_bytes()
        shutil.rmtree(self.room, ignore_errors=True)
        self.room.mkdir()
        case.spoil()
        before = self._state()
        outcome = fork(command(*case.arguments), self.log, _limit(usual))
        changed = self._changed(before)
        spoilt = None if case.file is None else case.file.read_bytes()
        if case.file is not None and whole is not None:
            case.file.write_bytes(whole)
        bad = [self._verdict(case, outcome, usual)]
        bad += ["memory"] if outcome.peak > max(usual.peak, self.ordinary.peak) + ABOVE_BYTES else []
        bad += ["touched"] if changed or self.pwned.exists() else []
        self.pwned.unlink(missing_ok=True)
        self._count(case.kind, bad, outcome, f"{case.arguments} {changed}", spoilt)

    def on_failing_disk(self, writer: Writer) -> None:
        """Run a command once whole, then with one of its writes failing."""
        call, n_calls, whole = self._call_of(writer)
        self._fail_at(writer, call, n_calls, self.rng.choice(ERRORS), self.rng.random() < 0.5, whole)

    def _fail_at(self, writer: Writer, call: int, n_calls: int, error: int, stays: bool, whole: Outcome) -> None:
        before = disk.contents(writer.folder)
        work = disk.failing(command(*writer.arguments), writer.folder, call, error, stays)
        outcome = fork(work, self.log, _limit(whole))
        problem = disk.harm(outcome, before, writer.folder)
        what = f"{writer.arguments} call {call} of {n_calls} {errno.errorcode[error]} stays={stays}"
        self._count(f"disk: {writer.name.split()[0]}", [problem or outcome.verdict], outcome, what, None)

    def at_a_signal(self, writer: Writer) -> None:
        """Run a command once whole, then with a signal at one of its writes; what was killed must run again."""
        call, n_calls, whole = self._call_of(writer)
        before, number = disk.contents(writer.folder), self.rng.choice(SIGNALS)
        work = command(*writer.arguments)
        outcome = fork(disk.failing(work, writer.folder, call, -number, False), self.log, _limit(whole))
        problem = disk.harm_of_signal(outcome, number, before, writer.folder)
        if number == signal.SIGKILL and problem is None:
            outcome = fork(work, self.log, _limit(whole))
            if outcome.verdict == "refused":  # what was killed had done its work: the next writer is another
                fork(lambda: write_text_whole(writer.folder / "next.txt", "next"), self.log)
            problem = disk.harm_of_rerun(outcome, writer.folder)
        what = f"{writer.arguments} call {call} of {n_calls} {number.name}: code {outcome.code}"
        what += f" {sorted(disk.hidden(writer.folder))}"
        self._count(f"signal: {writer.name.split()[0]}", [problem or "refused"], outcome, what, None)

    def _call_of(self, writer: Writer) -> tuple[int, int, Outcome]:
        """Run a command whole, and draw one of its calls that write; the number of them and what came of it, too."""
        calls = self.folder / "calls"
        writer.prepare()
        whole = fork(disk.counting(command(*writer.arguments), writer.folder, calls), self.log, 300)
        # A check may find that times have grown.
        if whole.code not in (0, 1) or not calls.exists():
            raise SystemExit(f"{writer.arguments}: {whole.output}")
        n_calls = int(calls.read_text())
        calls.unlink()
        writer.prepare()
        return self.rng.randint(1, max(1, n_calls)), n_calls, whole

    def _usual(self, arguments: list[object]) -> Outcome:
        """What a command gives while all is whole."""
        key = str(arguments)
        if key not in self.usual:
            self.room.mkdir(exist_ok=True)
            self.usual[key] = fork(command(*arguments), self.log, 300)
            if self.usual[key].verdict not in ("accepted", "refused"):
                raise SystemExit(f"{arguments}: {self.usual[key].output}")
        return self.usual[key]

    def _verdict(self, case: Case, outcome: Outcome, usual: Outcome) -> str:
        if case.same == "scores" and outcome.verdict == "accepted" and not _same(outcome, usual):
            return "other scores"
        if case.same == "others" and outcome.verdict in ("accepted", "refused"):
            known = [float(score) for score in scores_in(usual.output)]
            scored = [float(score) for name, score in _rows(outcome) if name in ("0.png", "1.png", "2.png")]
            # Some processors round otherwise in a batch of another size.
            if len(scored) != 3 or not all(any(math.isclose(s, k, rel_tol=1e-4) for k in known) for s in scored):
                return "other scores"
        if case.same == "rows" and outcome.verdict == "accepted":
            rows = [json.dumps(row) for row in json.loads(usual.stdout)]
            if not all(json.dumps(row) in rows for row in json.loads(outcome.stdout)):
                return "other scores"
        return outcome.verdict

    def _count(self, kind: str, bad: list[str], outcome: Outcome, what: str, spoilt: bytes | None) -> None:
        self.number += 1
        self.counts[kind].update(["tried", *bad])
        if any(column in BAD for column in bad):
            kept = self.folder / "bad" / str(self.number)
            kept.parent.mkdir(exist_ok=True)
            if spoilt is not None:
                kept.write_bytes(spoilt)
            elif self.room.exists():
                self.room.rename(kept)
            seconds = f"{outcome.seconds:.0f} s, {outcome.peak >> 20} MB"
            print(f"{kind}: {', '.join(bad)}: {kept} ({seconds}) {what}\n{outcome.output[-1800:]}", file=sys.stderr)

    def _state(self) -> dict[Path, tuple[int, int]]:
        """Size and time of all files that no command may write."""
        ours = {
            self.cache,
            self.room,
            self.log,
            self.log.with_suffix(".err"),
            self.folder / "bad",
            self.folder / "calls",
            self.world / "out",
        }
        found = {}
        for parent, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if Path(parent, name) not in ours]
            for name in files:
                path = Path(parent, name)
                if path not in ours:
                    status = path.lstat()
                    found[path] = (status.st_size, status.st_mtime_ns)
        return found

    def _changed(self, before: dict[Path, tuple[int, int]]) -> list[str]:
        after = self._state()
        return sorted(str(path) for path in {*before, *after} if before.get(path) != after.get(path))


def _limit(usual: Outcome) -> float:
    """Seconds after which a command hangs: more where the machine is so busy that it takes long by itself."""
    return max(SECONDS, 10 * usual.seconds)


def _rows(outcome: Outcome) -> list[tuple[str, str]]:
    """Names and scores of what ``predict`` printed as CSV or JSON."""
    if outcome.stdout.startswith("["):
        return [(Path(row["path"]).name, str(row["score"])) for row in json.loads(outcome.stdout)]
    lines = [line.split(",") for line in outcome.stdout.splitlines()]
    return [(Path(cells[0]).name, cells[1]) for cells in lines if len(cells) > 1]


def _same(outcome: Outcome, usual: Outcome) -> bool:
    """Whether two commands printed the same numbers."""
    if scores_in(usual.output):
        return scores_in(outcome.output) == scores_in(usual.output)
    return outcome.stdout == usual.stdout


def main() -> None:
    """Print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--seed", type=whole(0), default=1)
    parser.add_argument("--cases", type=whole(), default=4000)
    parser.add_argument("--minutes", type=above(0), default=8.0)
    parser.add_argument("--only", default="", help="kinds that begin so")
    parser.add_argument("--in-turn", action="store_true", help="only calls that write, each failing in turn")
    arguments = parser.parse_args()
    if _FOLDER not in os.environ:
        _run_as_on_any_machine()
    folder = Path(os.environ[_FOLDER])
    for module in PRELOADED:  # which forks need not import again
        importlib.import_module(f"padim_zoo.{module}")

    deadline = time.monotonic() + 60 * arguments.minutes
    attack = Attack(folder, arguments.seed)
    attempt = attack.in_turn if arguments.in_turn else attack.run
    attempt(arguments.cases, deadline, arguments.only)
    if not attack.number:
        raise SystemExit("nothing was tried: give more --minutes, or another --only")
    print(f"{'':28}" + "".join(f"{column:>14}" for column in COLUMNS))
    total: Counter[str] = Counter()
    for kind, counted in [*sorted(attack.counts.items()), ("all", total)]:
        print(f"{kind:28}" + "".join(f"{counted[column]:>14}" for column in COLUMNS))
        if kind != "all":
            total.update(counted)
    bad = any(total[column] for column in BAD)
    if not bad:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(int(bad))


def _run_as_on_any_machine() -> NoReturn:
    """Run this program anew with two processors, no graphics card, nothing that a user has set, and disk.c in it."""
    folder = Path(tempfile.mkdtemp(prefix="faults-")).resolve()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    for name in [name for name in os.environ if name.startswith("PADIM_ZOO_")]:
        del os.environ[name]
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "MALLOC_ARENA_MAX": "4", "COLUMNS": "100", _FOLDER: str(folder)}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which nohup ignores, and commands with it
        signal.signal(number, signal.SIG_DFL)
    disk.preload(folder / "disk.so")
    os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    main()
