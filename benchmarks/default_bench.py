"""Time of ``padim-zoo bench`` with an empty cache, of this checkout beside that of another one, in turns.

    python benchmarks/default_bench.py --other FOLDER [--rounds N] [-- OPTION …]

``FOLDER`` holds another version of padim-zoo, such as ``git worktree add FOLDER COMMIT`` makes. Options behind ``--``
go to both. It prints seconds of wall-clock and processor time of each round, and the ratios of the least ones. It exits
with 1 where this checkout takes more than ``--limit`` of the other's wall-clock time.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from script_options import Parser, above, whole

CODE = "from padim_zoo.cli.main import main; main()"


def seconds_of(checkout: Path, options: list[str]) -> tuple[float, float]:
    """Wall-clock and processor time of one benchmark, whose cache and run store are new."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "PADIM_ZOO_CACHE": f"{folder}/cache"}
        command = [sys.executable, "-c", CODE, "bench", "--output", f"{folder}/runs", "--quiet", *options]
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, cwd=folder, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - began, processor


def main() -> int:
    """Measure and print."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--rounds", type=whole(), default=1, metavar="N")
    parser.add_argument("--limit", type=above(0), default=1.0, metavar="RATIO")
    parser.add_argument("options", nargs="*", metavar="OPTION")
    asked = parser.parse_args()
    checkouts = {"other": asked.other.resolve(), "this": Path(__file__).resolve().parents[1]}
    least = dict.fromkeys(checkouts, (float("inf"), float("inf")))
    if not (asked.other / "padim_zoo").is_dir():
        parser.error(f"--other is {asked.other}: expected a checkout of padim-zoo")
    for _ in range(asked.rounds):
        for name, checkout in checkouts.items():
            wall, processor = seconds_of(checkout, asked.options)
            least[name] = min(least[name][0], wall), min(least[name][1], processor)
            print(f"{name}: {wall:.1f} s, {processor:.1f} s of processors", flush=True)
    ratio, of_processors = (mine / theirs for mine, theirs in zip(least["this"], least["other"], strict=True))
    print(f"this / other: {ratio:.2f}, {of_processors:.2f} of processors")
    return int(ratio > asked.limit)


if __name__ == "__main__":
    sys.exit(main())
