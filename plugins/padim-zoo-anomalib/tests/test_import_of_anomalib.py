"""A PaDiM that anomalib fitted scores the same after `padim-zoo import`, from its checkpoint and from its export."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.data.utils import read_image
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from click.testing import CliRunner
from PIL import Image
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize

import padim_zoo
from padim_zoo.cli.main import main

NORMALIZE = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
GEOMETRIES = {
    "exact": ([Resize((64, 64))], (64, 64)),
    "shorter side and crop": ([Resize(64), CenterCrop(48)], (48, 48)),
}


def fitted(model, images, folder):
    runner = Engine(
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )
    data = MVTecAD(root=images, category="gear", num_workers=0, train_batch_size=4, eval_batch_size=3)
    runner.fit(model, datamodule=data)
    return runner


def padim(steps) -> Padim:
    from anomalib.pre_processing import PreProcessor

    pre_processor = PreProcessor(Compose([*steps, NORMALIZE]))
    return Padim("resnet18", n_features=25, pre_trained=False, visualizer=False, pre_processor=pre_processor)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kind", ["checkpoint", "export"])
def test_an_imported_padim_scores_the_same(kind, geometry, images, test_files, folder):
    steps, size = GEOMETRIES[geometry]
    model = padim(steps)
    runner = fitted(model, images, folder)
    path = (
        runner.best_model_path if kind == "checkpoint" else runner.export(model, ExportType.TORCH, export_root=folder)
    )
    result = CliRunner().invoke(main, ["import", str(path), "-o", "model.safetensors"])
    assert result.exit_code == 0, result.output
    batch = torch.stack([read_image(file, as_tensor=True) for file in test_files])
    with torch.no_grad():
        expected = model.eval().model(model.pre_processor.transform(batch))
    found = padim_zoo.load("model.safetensors").predict(test_files)
    assert found.maps.shape[1:] == size
    np.testing.assert_allclose(found.scores, expected.pred_score.flatten(), rtol=1e-4)
    np.testing.assert_allclose(found.maps, expected.anomaly_map[:, 0], rtol=1e-4)


def test_resized_images_score_nearly_the_same(images, test_files, folder):
    """anomalib resizes in floating point, padim-zoo to whole numbers: docs/import.md says so."""
    model = padim(GEOMETRIES["exact"][0])
    runner = fitted(model, images, folder)
    CliRunner().invoke(main, ["import", str(runner.best_model_path), "-o", "model.safetensors"])
    larger = []
    for number, file in enumerate(test_files):
        larger.append(folder / f"{number}.png")
        Image.open(file).resize((150, 150), Image.Resampling.BICUBIC).save(larger[-1])
    batch = torch.stack([read_image(file, as_tensor=True) for file in larger])
    with torch.no_grad():
        expected = model.eval().model(model.pre_processor.transform(batch)).pred_score.flatten().numpy()
    found = padim_zoo.load("model.safetensors").predict(larger).scores
    difference = float(np.abs(found / expected - 1).max())
    assert 0 < difference < 0.02


def test_another_model_is_refused(images, folder):
    small = Patchcore.configure_pre_processor((64, 64))
    runner = fitted(Patchcore("resnet18", pre_trained=False, visualizer=False, pre_processor=small), images, folder)
    result = CliRunner().invoke(main, ["import", str(runner.best_model_path), "-o", "model.safetensors"])
    assert result.exit_code == 2
    assert "expected a PaDiM of anomalib" in result.output
