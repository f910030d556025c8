"""Measure anomalib; the last line of the output is one JSON object. See README.md beside this file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
start = time.perf_counter()
from anomalib.data import MVTecAD  # noqa: E402
from anomalib.deploy import ExportType, OpenVINOInferencer  # noqa: E402
from anomalib.engine import Engine  # noqa: E402
from anomalib.models import Padim  # noqa: E402

import_s = time.perf_counter() - start

import torch  # noqa: E402
from stopwatch import latencies, median_ms, peak_mb, seconds_of  # noqa: E402

root, backbone, n_components, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
torch.manual_seed(0)
padim = Padim(backbone=backbone, n_features=n_components, pre_trained=False, visualizer=False)
data = MVTecAD(root=root, category="fabric", train_batch_size=32, eval_batch_size=32, num_workers=0)
data.setup()
prepare = padim.pre_processor.transform

start = time.perf_counter()
with torch.no_grad():
    padim.model.train()
    for batch in data.train_dataloader():
        padim.model(prepare(batch.image))
    torch.set_num_threads(1 if n_components > 200 else threads)  # its batched inverse hangs with more threads
    padim.model.fit()
    torch.set_num_threads(threads)
found = {"import_s": import_s, "fit_s": time.perf_counter() - start, "fit_peak_mb": peak_mb()}

padim.eval()
with tempfile.TemporaryDirectory() as folder:
    engine = Engine(
        accelerator="cpu", default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False, logger=False
    )
    start = time.perf_counter()
    engine.test(padim, datamodule=data, verbose=False)
    found["test_s"] = time.perf_counter() - start

padim.eval()
with torch.inference_mode():
    found |= latencies(padim, lambda size: torch.rand(size, 3, 256, 256))
found["model_mb"] = sum(tensor.numel() * tensor.element_size() for tensor in padim.state_dict().values()) / 1e6
# Its export scores too; users of it give one image at a time.
with tempfile.TemporaryDirectory() as folder:
    here = os.getcwd()
    os.chdir(folder)  # where its inferencer leaves a cache
    exported = Engine(default_root_dir=folder, logger=False).export(padim, ExportType.OPENVINO, export_root=folder)
    inferencer = OpenVINOInferencer(exported, device="CPU", config={"INFERENCE_NUM_THREADS": threads})
    image = torch.rand(1, 3, 256, 256).numpy()
    found["batch_1_openvino_ms"] = median_ms(lambda: inferencer.model(image), 20)
    os.chdir(here)
found["help_s"] = seconds_of([str(Path(sys.executable).with_name("anomalib")), "--help"])
print(json.dumps(found))
