"""The time of PatchCore's search within a radius, and of subspace, beside that of the whole memory bank; and ratios.

python benchmarks/local_memory.py [--images 50] [--grid 32] [--channels 384] [--share 0.1] [--batch 1] [--repeats 5]
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from script_options import Parser, above, whole

from padim_zoo.detectors.memory_bank import MemoryBank, Neighborhoods
from padim_zoo.detectors.subspace import NormalSubspace


def seconds(score: Callable[[torch.Tensor], object], layer: torch.Tensor, repeats: int) -> float:
    """The least processor time of a score of patches, after a first one that may make tables."""
    score(layer)
    times = []
    for _ in range(repeats):
        start = time.process_time()
        score(layer)
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=whole(), default=50)
    parser.add_argument("--grid", type=whole(), default=32)
    parser.add_argument("--channels", type=whole(), default=384)
    parser.add_argument("--share", type=above(0, 1), default=0.1, help="of the patches that the bank holds")
    parser.add_argument("--batch", type=whole(), default=1)
    parser.add_argument("--repeats", type=whole(), default=5)
    arguments = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    grid, D = (arguments.grid, arguments.grid), arguments.channels
    of_each = max(1, round(arguments.share * arguments.images))
    positions = torch.arange(grid[0] * grid[1])[:, None].expand(-1, of_each).flatten()
    patches = torch.randn(len(positions), D, generator=generator)
    layer = torch.randn(grid[0] * grid[1], arguments.batch, D, generator=generator)
    of_all = seconds(MemoryBank(patches).nearest, layer, arguments.repeats)
    print(f"{len(patches)} patches of {D} dimensions, {arguments.batch} images, processor time")
    print(f"all positions {1e3 * of_all:.1f} ms")
    for radius in sorted({0, 1, 2, 3, 5, arguments.grid // 4}):
        bank = MemoryBank(patches, Neighborhoods(positions, grid, radius))
        local = seconds(bank.nearest, layer, arguments.repeats)
        print(f"radius {radius}: {1e3 * local:.1f} ms, ratio {local / of_all:.2f}")
    # A third of the directions takes the most work.
    subspace = NormalSubspace(torch.zeros(D), torch.eye(D)[:, : D // 3].contiguous(), outside=False)
    projected = seconds(subspace.distances, layer, arguments.repeats)
    print(f"subspace, at most: {1e3 * projected:.1f} ms, ratio {projected / of_all:.3f}")


if __name__ == "__main__":
    main()
