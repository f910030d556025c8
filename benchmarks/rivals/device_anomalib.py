"""Measure anomalib on a device; the last line of the output is one JSON object. See benchmarks/gpu.py."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable

warnings.filterwarnings("ignore")
import torch  # noqa: E402
from anomalib.data import MVTecAD  # noqa: E402
from anomalib.models import Padim  # noqa: E402
from stopwatch import fit_figures, latencies, peak_mb  # noqa: E402

WORKERS = 8
"""Processes that decode, as is its own default; on a processor these would take turns with the network."""

root, backbone = sys.argv[1:3]
n_components, threads = map(int, sys.argv[3:5])
device = sys.argv[5]
on_gpu = device != "cpu"
torch.set_num_threads(threads)
torch.manual_seed(0)
padim: Padim


def prepare() -> Callable[[], object]:
    """A detector that was never fitted."""
    global padim
    padim = Padim(backbone=backbone, n_features=n_components, pre_trained=False, visualizer=False).to(device)
    workers = WORKERS if on_gpu else 0
    data = MVTecAD(root=root, category="fabric", train_batch_size=32, eval_batch_size=32, num_workers=workers)
    data.setup()
    transform = padim.pre_processor.transform

    @torch.no_grad()
    def fit() -> None:
        padim.model.train()
        for batch in data.train_dataloader():
            padim.model(transform(batch.image.to(device)))
        # Its batched inverse hangs with more threads.
        torch.set_num_threads(1 if n_components > 200 and not on_gpu else threads)
        padim.model.fit()
        torch.set_num_threads(threads)
        if on_gpu:
            torch.cuda.synchronize()

    return fit


found = fit_figures(prepare)
padim.eval()


def score(images: torch.Tensor) -> object:
    """From images to scores and maps, all in main memory."""
    result = padim(images.to(device))
    return result.pred_score.cpu(), result.anomaly_map.cpu()


with torch.inference_mode():
    found |= latencies(score, lambda size: torch.rand(size, 3, 256, 256), 5 if on_gpu else 1)
found |= {"host_mb": peak_mb(), "gpu_mb": torch.cuda.max_memory_allocated() / 1e6 if on_gpu else 0.0}
print(json.dumps(found))
