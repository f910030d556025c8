"""Measure anomalib's PaDiM with its tiler on large images; the last line of the output is one JSON object.

    python measure_anomalib_tiles.py FOLDER DIMENSIONS TILE

Images of the folder are decoded one at a time, and one at a time they pass through the network. The last is scored.
The loop of the fit is by hand, since ``Engine.fit`` also validates.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
import torch  # noqa: E402
from anomalib.data.utils import read_image  # noqa: E402
from anomalib.data.utils.tiler import Tiler  # noqa: E402
from anomalib.models.image.padim.torch_model import PadimModel  # noqa: E402
from stopwatch import peak_mb  # noqa: E402
from torchvision.transforms.v2.functional import normalize  # noqa: E402

folder, n_components, tile = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
paths = sorted(folder.glob("*.png"))
torch.manual_seed(0)
model = PadimModel(backbone="resnet18", pre_trained=False, n_features=n_components)
model.tiler = Tiler(tile_size=tile, stride=tile)


def decoded(path: Path) -> torch.Tensor:
    """One image (1, 3, H, W) with the mean and deviation of ImageNet, as its preprocessor makes it."""
    image = read_image(path, as_tensor=True)
    normalized: torch.Tensor = normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return normalized[None]


found = {}
with torch.inference_mode():
    start, of_processor = time.perf_counter(), time.process_time()
    model.train()
    model.feature_extractor.eval()
    for path in paths[:-1]:
        model(decoded(path))
    model.fit()
    found["fit_seconds"], found["fit_cpu_seconds"] = time.perf_counter() - start, time.process_time() - of_processor
    found["fit_peak_mb"] = peak_mb()
    model.eval()
    model(decoded(paths[-1]))
    start, of_processor = time.perf_counter(), time.process_time()
    model(decoded(paths[-1]))
    found["predict_seconds"] = time.perf_counter() - start
    found["predict_cpu_seconds"] = time.process_time() - of_processor
found["model_mb"] = (model.gaussian.mean.numel() + model.gaussian.inv_covariance.numel()) * 4 / 1e6
print(json.dumps(found))
