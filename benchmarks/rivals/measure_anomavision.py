"""Measure AnomaVision; the last line of the output is one JSON object. See README.md beside this file."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path

start = time.perf_counter()
import anomavision  # noqa: E402

import_s = time.perf_counter() - start

import torch  # noqa: E402
from anomavision.algorithm.common import feature_extraction  # noqa: E402
from stopwatch import latencies, peak_mb  # noqa: E402

NAMES = {"resnet18": "resnet18", "wide_resnet50_2": "wide_resnet50"}

root, backbone, n_components, threads = sys.argv[1], NAMES[sys.argv[2]], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
torch.manual_seed(0)
network, _ = feature_extraction.BACKBONES[backbone]
feature_extraction.BACKBONES[backbone] = (network, None)  # random weights, as on the other sides
images = anomavision.AnodetDataset(str(Path(root) / "fabric" / "train" / "good"), resize=256, crop_size=None)
with contextlib.redirect_stdout(io.StringIO()):
    padim = anomavision.Padim(backbone, layer_indices=[0, 1, 2], feat_dim=n_components)

start = time.perf_counter()
with torch.no_grad():
    padim.fit(torch.utils.data.DataLoader(images, batch_size=32))
found = {"import_s": import_s, "fit_s": time.perf_counter() - start, "fit_peak_mb": peak_mb()}

padim.eval()
with torch.inference_mode():
    found |= latencies(padim, lambda size: torch.rand(size, 3, 256, 256))
found["model_mb"] = sum(tensor.numel() * tensor.element_size() for tensor in padim.state_dict().values()) / 1e6
print(json.dumps(found))
