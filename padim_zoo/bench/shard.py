"""A fixed part of a plan, for machines that share nothing but a disk, such as the jobs of a SLURM array.

Groups are cut further where there are fewer of them than workers or shards.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import groupby

from padim_zoo.bench.run import Run
from padim_zoo.core.errors import InputError
from padim_zoo.core.shard import Shard


def split_groups(in_groups: Sequence[list[Run]], workers: int, each: int = 1) -> list[list[Run]]:
    """Halve the largest groups until there are enough for some workers, or none can be cut.

    Groups are cut by seed and detector until each worker has so many. Runs that differ in their estimator alone share a
    pass over the patches, and are cut only where a worker would have none. Each part extracts the features of its group
    again, so groups are not cut where there are enough.

    Parameters
    ----------
    in_groups : sequence of list of Run
    workers : int
        Or shards.
    each : int
        Parts for each of them.

    Returns
    -------
    list of list of Run
        The same runs in the same order.
    """
    by_folds = [[list(unit) for _, unit in groupby(group, key=_shared)] for group in in_groups]
    parts = _halved(by_folds, workers * each)
    by_run = [[[run] for unit in units for run in unit] for units in parts]
    return [[run for unit in units for run in unit] for units in _halved(by_run, workers)]


def _halved(parts: list[list[list[Run]]], wanted: int) -> list[list[list[Run]]]:
    """Lists of units, of which the largest are halved."""
    while parts and len(parts) < wanted:
        largest = max(range(len(parts)), key=lambda number: (len(parts[number]) > 1, sum(map(len, parts[number]))))
        units = parts[largest]
        if len(units) < 2:
            break
        parts[largest : largest + 1] = [units[: len(units) // 2], units[len(units) // 2 :]]
    return parts


def _shared(run: Run) -> str:
    """What runs agree in that share folds."""
    return run.config.replace(estimator=None, plugins=()).id


_EXTRACTION = 10
"""What the features of a group cost, in fits."""


def runs_of_shard(in_groups: Sequence[list[Run]], shard: str) -> list[Run]:
    """The runs of one shard of a plan: whole groups, which are cut where there are fewer than shards.

    The dearest group comes first, to the shard that has the least so far. What a group costs is a formula of the plan,
    never a measurement, so all machines cut alike.

    Raises
    ------
    InputError
        If there are no runs.
    """
    if not in_groups:
        raise InputError(f"the plan has no runs to take shard {shard} of: give every setting at least one value")
    asked = Shard.parse(shard)
    parts = split_groups(in_groups, asked.count)
    load, shard_of = [0] * asked.count, {}
    for index in sorted(range(len(parts)), key=lambda index: (-_cost(parts[index]), index)):
        shard_of[index] = load.index(min(load))
        load[shard_of[index]] += _cost(parts[index])
    return [run for index, part in enumerate(parts) if shard_of[index] == asked.number - 1 for run in part]


def _cost(group: Sequence[Run]) -> int:
    """The fits of all folds, and the features of each backbone."""
    return _EXTRACTION * len(group[0].parts) + sum(len(run.parts) * (run.config.folds or 1) for run in group)


def sbatch_script(words: Sequence[str], shards: int, folder: str, store: str) -> str:
    """A SLURM array script that runs a command in so many shards, each into a store of its own beside ``store``."""
    command = shlex.join(words)
    return f"""#!/bin/bash
#SBATCH --job-name=padim-zoo
#SBATCH --array=1-{shards}
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --output=%x-%A-%a.log
# Then: padim-zoo leaderboard {shlex.quote(store)}-*
set -euo pipefail
cd {shlex.quote(folder)}
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
srun {command} --shard "$SLURM_ARRAY_TASK_ID/{shards}" --output {shlex.quote(store)}-"$SLURM_ARRAY_TASK_ID"
"""
