"""PadimZoo in anomalib gives what the detector gives by itself, whichever way anomalib runs, saves and loads it."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import anomalib
import numpy as np
import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.deploy import ExportType, TorchInferencer
from anomalib.engine import Engine
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from packaging.version import Version
from padim_zoo_anomalib import PadimZoo
from PIL import Image

import padim_zoo
from padim_zoo.plugin import Detector, InputError

RESIZE, CROP = 80, 56  # images have 64 × 64 pixels: they are resized
DETECTORS = {"padim": padim_zoo.PaDiM, "patchcore": padim_zoo.PatchCore, "mahalanobis-ad": padim_zoo.MahalanobisAD}


def engine(folder: Path) -> Engine:
    return Engine(
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )


def data(images: Path) -> MVTecAD:
    return MVTecAD(root=images, category="gear", num_workers=0, train_batch_size=4, eval_batch_size=3)


def model(detector: str = "padim", **options) -> PadimZoo:
    raw = PostProcessor(enable_normalization=False)
    return PadimZoo(detector, resize=RESIZE, crop=CROP, visualizer=False, post_processor=raw, **options)


def outputs(batches) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Paths, raw scores and raw maps of predicted batches."""
    paths = [path for batch in batches for path in batch.image_path]
    scores = torch.cat([batch.pred_score.flatten() for batch in batches]).numpy()
    if batches[0].anomaly_map is None:
        return paths, scores, None
    maps = torch.cat([batch.anomaly_map.reshape(-1, CROP, CROP) for batch in batches]).numpy()
    return paths, scores, maps


def check(batches, alone: Detector) -> None:
    paths, scores, maps = outputs(batches)
    expected = alone.predict(paths)
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-4)
    if maps is not None:
        np.testing.assert_allclose(maps, expected.maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_fit_and_predict_give_the_scores_of_the_detector_by_itself(name, images, good, folder):
    fitted = model(name)
    runner = engine(folder)
    runner.fit(fitted, datamodule=data(images))
    alone = DETECTORS[name](resize=RESIZE, crop=CROP).fit(good)
    check(runner.predict(fitted, datamodule=data(images)), alone)
    fitted.save(folder / "model.safetensors")
    check(runner.predict(fitted, datamodule=data(images)), padim_zoo.load(folder / "model.safetensors"))
    check(runner.predict(fitted, datamodule=data(images)), fitted.detector())


def test_parameters_reach_the_detector(images, good, folder):
    fitted = model(estimator="shrinkage(0.3)", n_components=20, seed=3, options={"sigma": 2.0, "reduction": "random"})
    runner = engine(folder)
    runner.fit(fitted, datamodule=data(images))
    alone = padim_zoo.PaDiM(
        "builtin", "shrinkage(0.3)", n_components=20, seed=3, sigma=2.0, reduction="random", resize=RESIZE, crop=CROP
    )
    check(runner.predict(fitted, datamodule=data(images)), alone.fit(good))


def test_test_gives_figures_by_normalized_scores(images, folder):
    fitted = PadimZoo(resize=RESIZE, crop=CROP, visualizer=False)
    runner = engine(folder)
    runner.fit(fitted, datamodule=data(images))
    (figures,) = runner.test(fitted, datamodule=data(images), verbose=False)
    assert figures["pixel_AUROC"] > 0.6
    _, scores, _ = outputs(runner.predict(fitted, datamodule=data(images)))
    assert 0 <= scores.min() < 0.5 < scores.max() <= 1


SCORE = """
import sys
import numpy as np
import torch
from padim_zoo_anomalib import PadimZoo
from PIL import Image

model = PadimZoo.load_from_checkpoint(sys.argv[1], visualizer=False, weights_only=sys.argv[2] == "safely").eval()
images = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in sys.argv[3:]]))
images = model.pre_processor.transform(images.permute(0, 3, 1, 2).float() / 255)
print(" ".join(f"{float(score):.9g}" for score in model.model(images).pred_score))
"""


def test_checkpoints_and_exports_hold_the_fitted_detector(images, good, test_files, folder):
    fitted = model()
    runner = engine(folder)
    runner.fit(fitted, datamodule=data(images))
    alone = padim_zoo.PaDiM(resize=RESIZE, crop=CROP).fit(good)
    expected = alone.predict(test_files).scores

    checkpoint = Path(runner.best_model_path)
    # Before 2.7 anomalib itself pickles the post-processor that a model was given.
    safely = Version(anomalib.__version__) >= Version("2.7")
    content = torch.load(checkpoint, weights_only=safely)
    assert all(isinstance(value, torch.Tensor) for value in content["state_dict"].values())
    options = [str(checkpoint), "safely" if safely else "anyhow", *map(str, test_files)]
    command = [sys.executable, "-W", "ignore", "-c", SCORE, *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    np.testing.assert_allclose(list(map(float, done.stdout.split())), expected, rtol=1e-4)

    check(runner.predict(model(), datamodule=data(images), ckpt_path=checkpoint), alone)

    exported = TorchInferencer(runner.export(fitted, ExportType.TORCH, export_root=folder), device="cpu")
    for path, score in zip(test_files, expected, strict=True):
        assert float(exported.predict(path).pred_score) == pytest.approx(score, rel=1e-4)

    from padim_zoo.importers import read_model

    imported = read_model([checkpoint]).detector()
    np.testing.assert_allclose(imported.predict(test_files).scores, expected, rtol=1e-4)


def test_images_of_different_sizes_and_their_masks_are_brought_to_one(images, folder):
    for number, path in enumerate(sorted((images / "gear" / "train" / "good").iterdir())):
        target = folder / "gear" / "train" / "good" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 64 + 3 * number
        Image.open(path).resize((size, size)).save(target)
    for name in ("test", "ground_truth"):
        shutil.copytree(images / "gear" / name, folder / "gear" / name)
    good = sorted((folder / "gear" / "train" / "good").iterdir())
    fitted = model()
    runner = engine(folder / "results")
    runner.fit(fitted, datamodule=data(folder))
    check(runner.predict(fitted, datamodule=data(folder)), padim_zoo.PaDiM(resize=RESIZE, crop=CROP).fit(good))


def run(program: str, *arguments: object) -> str:
    start = f"import sys; sys.argv[0] = {program!r}; {MAINS[program]}; main()"
    command = [sys.executable, "-W", "ignore", "-c", start, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


MAINS = {
    "anomalib": "from anomalib.cli.cli import main",
    "padim-zoo-anomalib": "from padim_zoo_anomalib.__main__ import main",
}
MODEL = ("--model", "padim_zoo_anomalib.PadimZoo", "--model.resize", "64", "--model.crop", "56")
PLAIN = ("--model.visualizer", "false", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")


def test_the_command_line_of_anomalib(images, folder):
    images_of = ("--data", "anomalib.data.MVTecAD", "--data.root", images, "--data.category", "gear")
    output = run("anomalib", "train", *MODEL, *PLAIN, *images_of, "--data.num_workers", 0, "--default_root_dir", folder)
    assert "image_AUROC" in output
    (checkpoint,) = (folder / "PadimZoo" / "MVTecAD" / "gear" / "v0").rglob("model.ckpt")
    loaded = ("--ckpt_path", checkpoint, "--default_root_dir", folder)
    output = run("anomalib", "test", *MODEL, *PLAIN, *images_of, "--data.num_workers", 0, *loaded)
    assert "image_AUROC" in output
    run("anomalib", "predict", *MODEL, *PLAIN, "--data", images / "gear" / "test" / "good", *loaded)


def test_a_benchmark_of_anomalib(images, folder):
    Path("benchmark.yaml").write_text(
        f"""
accelerator: [cpu]
benchmark:
  seed: 0
  model:
    class_path:
      grid: [PadimZoo]
    init_args:
      visualizer: false
      resize: 64
      detector:
        grid: [padim, patchcore]
      crop: 56
  data:
    class_path: MVTecAD
    init_args:
      root: {images}
      category: gear
      num_workers: 0
"""
    )
    run("padim-zoo-anomalib", "benchmark", "--config", "benchmark.yaml")
    (table,) = folder.rglob("results.csv")
    rows = list(csv.DictReader(table.open()))
    assert [row["model.init_args.detector"] for row in rows] == ["padim", "patchcore"]
    assert all(float(row["pixel_AUROC"]) > 0.5 for row in rows)


def test_bad_input_is_told_in_a_line(images, folder):
    with pytest.raises(InputError, match="unknown detector 'padin'"):
        PadimZoo("padin")
    with pytest.raises(InputError, match="crop is 'wide'"):
        PadimZoo(crop="wide")
    with pytest.raises(InputError, match="leave Normalize out"):
        PadimZoo(resize=64, crop=None).model(torch.full((1, 3, 64, 64), -2.0))
    with pytest.raises(InputError, match="no normal images"):
        PadimZoo().fit()
    with pytest.raises(InputError, match="not fitted"):
        PadimZoo().save(folder / "model.safetensors")
    with pytest.raises(InputError, match="the pre-processor is a PreProcessor"):
        PadimZoo(pre_processor=PreProcessor()).save(folder / "model.safetensors")
