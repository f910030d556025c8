"""The coreset of PatchCore: the literal greedy choice against the one that padim-zoo makes, and the ratio of times.

python benchmarks/coreset.py [--images 100] [--patches 784] [--share 0.1] [--steps 300]
"""

from __future__ import annotations

import time

import torch
from script_options import Parser, above, whole

from padim_zoo.core.nearest_neighbors import nearest_neighbors
from padim_zoo.detectors.coreset import greedy_k_center


def literal(points: torch.Tensor, count: int, first: int) -> torch.Tensor:
    """Every new center is compared with all points, as in the authors' code and in anomalib."""
    nearest = torch.linalg.vector_norm(points - points[first], dim=1)
    chosen = [first]
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, torch.linalg.vector_norm(points - points[chosen[-1]], dim=1))
    return torch.tensor(chosen)


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=whole(), default=100)
    parser.add_argument("--patches", type=whole(), default=784)
    parser.add_argument("--share", type=above(0, 1), default=0.1)
    parser.add_argument(
        "--steps", type=whole(), default=300, help="of the literal choice; all of its steps cost the same"
    )
    arguments = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    # Patches lie near a few kinds of them, in many dimensions, as features do.
    kinds = 10 * torch.randn(50, 128, generator=generator)
    n = arguments.images * arguments.patches
    points = kinds[torch.randint(50, (n,), generator=generator)] + torch.randn(n, 128, generator=generator)
    count = round(arguments.share * n)

    steps = min(count, arguments.steps)
    start = time.perf_counter()
    ours = greedy_k_center(points, count, seed=0)
    middle = time.perf_counter()
    theirs = literal(points, steps, int(ours[0]))
    end = time.perf_counter()
    print(f"{count} of {n} points in 128 dimensions, {torch.get_num_threads()} threads")
    seconds, literally = middle - start, (end - middle) * count / steps
    print(f"padim-zoo {seconds:.2f} s, literal {literally:.2f} s, ratio {literally / seconds:.1f}")
    # Where two points are equally far up to rounding, the choices part, and stay as good as each other.
    print(f"equal among the first {steps} centers: {torch.isin(ours[:steps], theirs).double().mean():.4f}")
    radii = [float(nearest_neighbors(points, points[chosen])[0].max()) for chosen in (ours[:steps], theirs)]
    print(f"farthest point from the first {steps} centers: {radii[0]:.5g}, literal {radii[1]:.5g}")


if __name__ == "__main__":
    main()
