"""Attacks padim-zoo with made files, and counts what comes of it; exits with 1 if anything bad does.

python benchmarks/faults.py [--seed 1] [--minutes 8] [--cases 1000]
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.faults.cases import Case, cases, make_world
from tests.faults.harness import ABOVE_BYTES, command, fork, scores_in

COLUMNS = ("tried", "refused", "accepted", "other scores", "traceback", "crash", "hang", "memory", "touched")
BAD = COLUMNS[3:]
PRELOADED = ("detectors.loading", "export.runtimes", "importers", "bench.leaderboard", "report.page", "cli.predict")


def attack(folder: Path, seed: int, most: int, minutes: float) -> dict[str, Counter[str]]:
    """Try cases until there were so many, or the time is over."""
    rng = random.Random(seed)
    cache, log = folder / "cache", folder / "log"
    os.environ["PADIM_ZOO_CACHE"] = str(cache)
    world = folder / "world"
    made = fork(lambda: make_world(world), log, 300)
    if made.code != 0:
        raise SystemExit(f"the files were not made: {made.output}")
    usual = {}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    deadline = time.monotonic() + 60 * minutes
    for number, case in enumerate(cases(world, cache, rng)):
        if number == most or time.monotonic() > deadline:
            return counts
        key = str(case.arguments)
        if key not in usual:
            usual[key] = fork(command(*case.arguments), log, 300)
            if usual[key].code != 0:
                raise SystemExit(usual[key].output)
        whole = case.file.read_bytes()
        spoilt = case.mangle(whole, rng)
        case.file.write_bytes(spoilt)
        before = set(folder.rglob("*"))
        outcome = fork(command(*case.arguments), log)
        case.file.write_bytes(whole)
        verdict = outcome.verdict
        if verdict == "accepted" and case.same and scores_in(outcome.output) != scores_in(usual[key].output):
            verdict = "other scores"
        bad = [verdict] if verdict in BAD else []
        bad += ["memory"] if outcome.peak > usual[key].peak + ABOVE_BYTES else []
        bad += ["touched"] if _new_files(before, folder, case) else []
        counts[case.kind].update(["tried", verdict, *bad[1:]])
        if bad:
            kept = folder / f"bad-{number}-{case.file.name}"
            kept.write_bytes(spoilt)
            print(f"{case.kind}: {', '.join(bad)}: {kept}\n{outcome.output[-1500:]}", file=sys.stderr)
    return counts


def _new_files(before: set[Path], folder: Path, case: Case) -> set[Path]:
    """Files that came, but for those that the command was asked for."""
    asked = {str(argument) for argument in case.arguments}
    return {path for path in set(folder.rglob("*")) - before if str(path) not in asked}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=8.0)
    arguments = parser.parse_args()
    for module in PRELOADED:  # which forks need not import again
        importlib.import_module(f"padim_zoo.{module}")

    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    counts = attack(folder, arguments.seed, arguments.cases, arguments.minutes)
    print(f"{'':28}" + "".join(f"{column:>14}" for column in COLUMNS))
    total: Counter[str] = Counter()
    for kind, counted in [*counts.items(), ("all", total)]:
        print(f"{kind:28}" + "".join(f"{counted[column]:>14}" for column in COLUMNS))
        total.update(counted)
    raise SystemExit(int(any(total[column] for column in BAD)))


if __name__ == "__main__":
    main()
