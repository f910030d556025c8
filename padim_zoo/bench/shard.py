"""A fixed part of a plan, for machines that share nothing but a disk, such as the jobs of a SLURM array."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from padim_zoo.bench.executors.split_groups import split_groups
from padim_zoo.bench.run import Run
from padim_zoo.core.errors import InputError
from padim_zoo.core.shard import Shard

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
