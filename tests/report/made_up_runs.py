"""Runs as bench would have written them, with made-up figures and pictures, and names as bad as they come."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from padim_zoo.bench.gallery import Gallery, Shown
from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.store import FORMAT, RunStore

EVIL = "</script><script>alert(1)</script><b onclick=alert(2)>%{x} & “ß” " + 12 * "a-very-long-name-without-a-break_"


def write_run(
    store: RunStore,
    *,
    failed: bool = False,
    gallery: int = 0,
    side: int = 32,
    curves: bool = True,
    figures: dict[str, float] | None = None,
    **config: Any,
) -> str:
    """A run as bench would have written it, with made-up figures: of as many images as its gallery has of each kind."""
    asked = RunConfig(
        **{
            "dataset": "mvtec",
            "data": "0" * 16,
            "detector": "padim",
            "backbone": "resnet18",
            "seed": 0,
            "folds": 1,
            **config,
        }
    )
    random = np.random.default_rng(int(asked.id[:8], 16))
    document = {
        "format": FORMAT,
        "id": asked.id,
        "status": "failed" if failed else "done",
        "created": "2026-01-02T03:04:05+00:00",
        "config": asked.to_dict(),
        "weights": "default",
        "n_train": 10,
        "n_test": 20,
        "folds": []
        if failed
        else [{"image_auroc": float(x), "aupro": float(x) / 2, **(figures or {})} for x in random.random(2)],
        "interval": {},
        "threshold": {},
        "timings": {} if failed else {"ms_per_image_b1": float(random.random()), "model_mb": float(random.random())},
        "notes": [],
        "error": {"type": "Error", "message": EVIL, "traceback": ""} if failed else None,
        "environment": {"cpu": "a processor", "calibration_seconds": random.random()},
    }
    if failed:
        store.write(document)
        return asked.id
    scores: dict[str, np.ndarray] = {"labels": np.arange(20) % 2, "scores": random.random((2, 20), dtype=np.float32)}
    if curves:
        scores["pro_curve"] = np.linspace(0, [0.3, 0.9], 101, dtype=np.float32).T
    store.write(document, scores, made_up_gallery(random, gallery, side).to_arrays() if gallery else None)
    return asked.id


def made_up_gallery(random: np.random.Generator, per_reason: int, side: int) -> Gallery:
    """Pictures of noise, larger than those of anything real."""
    reasons = ("miss", "false alarm", "random")
    items = [
        Shown(index, f"{EVIL}/{index}.png", EVIL, reason != 1, float(random.random()), (reasons[reason],))
        for index, reason in enumerate(reason for reason in range(3) for _ in range(per_reason))
    ]

    def picture(shape: tuple[int, ...]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    images = {item.index: picture((side, side, 3)) for item in items}
    maps = {item.index: picture((side // 2, side // 2)) for item in items}
    return Gallery(items, images, {}, maps, 0.0, 2.0, 0.5, 1.0, "test")
