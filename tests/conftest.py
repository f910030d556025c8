"""What all tests share: real data where it is mounted, a cache of their own, and a fixed seed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    # They share the processors, and so do the processes that they start: two workers of two threads each took two
    # processors three times as long. NumPy and torch read it when they are imported.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So does a shell for what it runs in the background, and so would all processes that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# The same examples each time, and no clock: a busy machine fails nothing, and a failure comes again. Other examples are
# looked for by pytest --hypothesis-profile=default.
settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights: ``PADIM_ZOO_SHARED``, or ``shared`` beside the checkout."""
    beside_checkout = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("PADIM_ZOO_SHARED", beside_checkout))
    if not (folder / "data" / "mvtec_reduced").is_dir():
        pytest.skip(f"needs real images: {folder} has no data/mvtec_reduced (set PADIM_ZOO_SHARED)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of this session, so that no test sees or leaves files in the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADIM_ZOO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _float32() -> Iterator[None]:
    """What is exact to seven digits is so on machines with fast bfloat16 too, in processes that tests start as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADIM_ZOO_PRECISION", "float32")
        yield


@pytest.fixture(scope="session", autouse=True)
def _hasty() -> Iterator[None]:
    """Latencies are measured, but of as few calls as may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("padim_zoo.bench.measure._SECONDS", 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_lines_by_the_clock() -> Iterator[None]:
    """Commands tell what they are at every ten seconds: a slow machine would have more lines than a fast one."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("stages", "progress"):
            patch.setattr(f"padim_zoo.cli.{module}.JSON_SECONDS", 10_000.0)
        yield


@pytest.fixture
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Pretends that this machine has fast bfloat16, or has not; and so ``auto`` means what it means to users."""
    monkeypatch.delenv("PADIM_ZOO_PRECISION")

    def pretend(fast: bool) -> None:
        monkeypatch.setattr("padim_zoo.backbones.device.has_fast_bfloat16", lambda device: fast)

    return pretend


@pytest.fixture
def draw():
    """Correlated samples of differing scales, (n, P, D), float32."""

    def make(n: int, P: int, D: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        mixing = rng.normal(size=(P, D, D)) / np.sqrt(D)
        values = np.einsum("npd,pde->npe", rng.normal(size=(n, P, D)), mixing) + rng.normal(size=(P, D))
        return (scale * values).astype(np.float32)

    return make


@pytest.fixture(autouse=True)
def _seed() -> None:
    """The same random numbers in a test whichever tests run before it."""
    import torch

    torch.manual_seed(0)
