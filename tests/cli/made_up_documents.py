"""Documents of runs that nobody made."""

from __future__ import annotations

from typing import Any

from padim_zoo.bench.store import FORMAT


def document(number: int, **config: Any) -> dict[str, Any]:
    """A run document with figures that depend on its number."""
    value = 0.9 + number % 10 / 100
    names = {"dataset": "mvtec", "data": "0" * 16, "detector": "padim", "seed": 0, "folds": 2}
    return {
        "format": FORMAT,
        "id": f"{number:016x}",
        "status": "done",
        "created": "2026-01-02T03:04:05+00:00",
        "config": {**names, **config},
        "weights": "default",
        "n_train": 10,
        "n_test": 20,
        "folds": [{"image_auroc": value, "aupro": value - 0.1}, {"image_auroc": value + 0.01, "aupro": value}],
        "interval": {},
        "threshold": {},
        "timings": {"ms_per_image_b1": 5.0 + number, "model_mb": 3.0},
        "notes": [],
        "error": None,
        "environment": {"cpu": "a processor", "calibration_seconds": 0.1},
    }
