"""How long OpenMP's threads spin before they sleep: too long, and a busy neighbor stops all of them."""

from __future__ import annotations

import os
import sys

from padim_zoo.core.cpu import usable_processors

SPINS = 500
"""Turns of a waiting loop, some 10 microseconds. On two cores a network of 42 convolutions takes at most 4 % longer
than with the 300,000 of GNU OpenMP. docs/performance.md has the figures beside a busy neighbor."""

FEW_PROCESSORS = 4
"""With more, to wake all threads 42 times an image may cost more than a neighbor does: that was not measured."""


def spin_briefly() -> None:
    """Let the threads of GNU OpenMP, which torch brings on Linux, wait asleep.

    A thread that spins looks busy to the scheduler. So it is made to wait for its turn beside another program, while
    all others spin until it is done. OpenMP reads the environment when torch is imported. What a user has set stays.
    """
    if "torch" in sys.modules or usable_processors() > FEW_PROCESSORS:
        return
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
