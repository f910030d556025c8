"""Measure padim-zoo; the last line of the output is one JSON object. See README.md beside this file."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

start = time.perf_counter()
import padim_zoo  # noqa: E402

import_s = time.perf_counter() - start

import numpy as np  # noqa: E402
import torch  # noqa: E402
from stopwatch import latencies, peak_mb, seconds_of  # noqa: E402

from padim_zoo.data.ground_truth import masks  # noqa: E402
from padim_zoo.data.image import read_image  # noqa: E402
from padim_zoo.metrics import evaluate  # noqa: E402
from padim_zoo.registry import datasets  # noqa: E402

root, backbone, n_components, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
precision, runtime = sys.argv[5:]
torch.set_num_threads(threads)
category = datasets.create("mvtec", root=root).load("fabric")
detector = padim_zoo.PaDiM(
    backbone, weights="none", n_components=n_components, resize=256, crop=None, precision=precision, runtime=runtime
)
detector.build_backbone()

start = time.perf_counter()
detector.fit(category.train)
form = detector.gaussian_.form
found: dict[str, float | str | None] = {"import_s": import_s, "fit_s": time.perf_counter() - start}
found |= {"fit_peak_mb": peak_mb(), "form": form, "runtime": detector.runtime_}

start = time.perf_counter()
prediction = detector.predict(category.test)
truth = masks(category.test, detector.transform)
evaluate(np.array([sample.label for sample in category.test]), prediction.scores, prediction.maps, truth)
found["test_s"] = time.perf_counter() - start

pictures = [read_image(sample.path) for sample in category.test[:32]]
ran = [detector.runtime_]


def many_of(size: int) -> list[np.ndarray]:
    """A batch, of which a line has many to score: with ``auto`` that is worth another runtime."""
    detector.expect(10_000, at_once=size)
    ran.append(detector.build_backbone().runtime)
    return pictures[:size]


found |= latencies(detector.predict, many_of)
found["runtime"] = "+".join(dict.fromkeys(ran))
of_network = latencies(detector.build_backbone(), lambda size: torch.rand(size, 3, 256, 256))
found |= {f"bare_network_{name}": value for name, value in of_network.items()}
with tempfile.TemporaryDirectory() as folder:
    detector.save(Path(folder) / "model.safetensors")
    found["model_mb"] = (Path(folder) / "model.safetensors").stat().st_size / 1e6
found["help_s"] = seconds_of([sys.executable, "-c", "from padim_zoo.cli.main import main; main(['--help'])"])
print(json.dumps(found))
