"""What the golden results are results of: fits, predictions, benchmarks and faulty commands on drawn images.

The package is touched only where its users touch it: the command line, ``padim_zoo.PaDiM``, ``padim_zoo.load`` and
their methods. ``tools/record_golden.py`` records what :data:`RUNS` and :data:`FAULTS` give; ``test_golden.py``
compares.

Entries are written, and recorded, in the names of the recorded version. Where the package renames something,
:data:`NAMES` is the one place that has to follow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

import padim_zoo
from padim_zoo.cli.main import main

NAMES = {
    # parameters of detectors and estimators, in Python and in specs like shrinkage(rho=0.2)
    "dims": "n_components",
    "reduce": "reduction",
    "coreset": "coreset_ratio",
    "neighbours": "n_neighbors",
    "rho": "shrinkage_intensity",
    "blur_edges": "pad_mode",
    "epochs": "epochs",
    "train_batch": "train_batch",
    # options of commands
    "--dims": "--n-components",
    "--reduce": "--reduction",
    "--model-dtype": "--model-dtype",
    "--fpr": "--fpr",
    "--resumable": "--resumable",
    "--keep-threshold": "--keep-threshold",
    # parameters of calibrate and save
    "false_alarm_rate": "false_alarm_rate",
    "dtype": "dtype",
    # columns of leaderboards, and keys of the JSON that predict and evaluate write
    "column score": "score",
    "column threshold": "threshold",
    "column anomalous": "anomalous",
    "column category": "category",
    "column detector": "detector",
    "column backbone": "backbone",
    "column estimator": "estimator",
    "column seed": "seed",
    "column status": "status",
    "column image_auroc": "image_auroc",
    "column image_auroc_std": "image_auroc_std",
    "column image_auroc_low": "image_auroc_low",
    "column image_auroc_high": "image_auroc_high",
    "column image_ap": "image_ap",
    "column image_f1": "image_f1",
    "column image_f1_threshold": "image_f1_threshold",
    "column pixel_auroc": "pixel_auroc",
    "column pixel_auroc_std": "pixel_auroc_std",
    "column pixel_ap": "pixel_ap",
    "column pixel_f1": "pixel_f1",
    "column pixel_f1_threshold": "pixel_f1_threshold",
    "column aupro": "aupro",
    "column aupro_std": "aupro_std",
    "column promised_false_alarms": "promised_false_alarms",
    "column false_alarms": "false_alarms",
    "column detections": "detections",
    "column thresholds": "thresholds",
    "column n_train": "n_train",
    "column n_test": "n_test",
}
"""Names of the recorded version, and what they are called now."""

CATEGORIES = ("gear", "leather")
TRAIN, GOOD, SIZE = 24, 4, 64
FIRST = 14
"""Images of the first fit where a second one goes on, or that the first of two merged models is of."""

ROUGHER = {"fit stfpm": 100.0}
"""Entries that may differ by so many times the tolerance: a training magnifies rounding, and the number of threads
alone moves its scores by 0.5 %, wherefore it has one thread."""

Outcome = dict[str, Any]
"""Arrays, numbers, truth values, texts and None by name; what ends in ``maps`` is recorded as a digest."""


def now(name: str) -> str:
    """What something is called now that had this name in the recorded version."""
    return NAMES.get(name, name)


def now_all(**parameters: Any) -> dict[str, Any]:
    """Keyword arguments by their present names."""
    return {now(name): value for name, value in parameters.items()}


def spec(name: str, **parameters: Any) -> str:
    """A name with arguments, as the command line takes it."""
    return f"{name}({', '.join(f'{now(key)}={value}' for key, value in parameters.items())})"


class World:
    """The images, models and run stores that entries share, made when first wanted.

    Parameters
    ----------
    folder : Path
        An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[tuple[str, ...], Path] = {}
        self._count = 0

    def new(self, name: str) -> Path:
        """A path that nothing is at."""
        self._count += 1
        return self.folder / f"{self._count}-{name}"

    # -- commands ----------------------------------------------------------------------------------------------------

    def run(self, *arguments: object) -> Result:
        """A command, in this process."""
        return CliRunner().invoke(main, [now(str(argument)) for argument in arguments])

    def succeed(self, *arguments: object) -> Result:
        """A command that has to exit with 0."""
        result = self.run(*arguments)
        assert result.exit_code == 0, f"{' '.join(map(str, arguments))}: {result.output}"
        return result

    def model(self, images: Iterable[Path], *options: object) -> Path:
        """A model of these images by ``fit``, on whole images, with factors in 32 bits; fitted once."""
        whole = ("--resize", "none", "--crop", "none", "--precision", "float32", "--model-dtype", "float32")
        arguments = (*map(str, images), *whole, *map(str, options))
        if arguments not in self._models:
            path = self.new("model.safetensors")
            self.succeed("fit", *arguments, "--output", path)
            self._models[arguments] = path
        return self._models[arguments]

    # -- images ------------------------------------------------------------------------------------------------------

    @cached_property
    def images(self) -> Path:
        """Two categories of the synthetic data set."""
        folder = self.folder / "images"
        sizes = ("--size", SIZE, "--train", TRAIN, "--good", GOOD, "--defects", 1, "--seed", 0)
        self.succeed("data", "synthetic", folder, "--categories", ",".join(CATEGORIES), *sizes)
        return folder

    def train(self, category: str = "gear") -> list[Path]:
        """The normal images to fit."""
        return sorted((self.images / category / "train" / "good").glob("*.png"))

    def test(self, category: str = "gear") -> list[Path]:
        """The test images, normal ones among them."""
        return sorted((self.images / category / "test").glob("*/*.png"))

    @cached_property
    def mask(self) -> Path:
        """A disc that counts, of any image."""
        path = self.new("mask.png")
        rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE // 2
        Image.fromarray(np.uint8(255) * (rows**2 + columns**2 < (SIZE // 3) ** 2).astype(np.uint8)).save(path)
        return path

    @cached_property
    def masks(self) -> Path:
        """A folder of masks that differ: the upper part of each image counts, of each a little more."""
        folder = self.new("masks")
        for number, path in enumerate([*self.train(), *self.test()]):
            mask = np.zeros((SIZE, SIZE), np.uint8)
            mask[: SIZE // 2 + number % 5 * 4] = 255
            target = folder / path.relative_to(self.images / "gear")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(target)
        return folder

    @cached_property
    def broken(self) -> Path:
        """An image file that ends too early."""
        path = self.new("folder") / "broken.png"
        path.parent.mkdir()
        path.write_bytes(self.train()[0].read_bytes()[:200])
        return path

    @cached_property
    def empty(self) -> Path:
        """A folder with nothing in it."""
        path = self.new("empty")
        path.mkdir()
        return path

    # -- run stores --------------------------------------------------------------------------------------------------

    @cached_property
    def runs(self) -> Path:
        """A benchmark of three folds on both categories."""
        return self.bench(
            *("--detectors", "padim,patchcore,spade,mahalanobis-ad", "--estimators", "full,ledoit-wolf", "--folds", 3)
        )

    @cached_property
    def seeds(self) -> Path:
        """A benchmark of two seeds of a backbone of torchvision."""
        return self.bench(
            *("--backbones", "resnet18", "--weights", "none", "--categories", "leather", "--tta", "flip"),
            *("--estimators", "shrinkage(0.2)", "--dims", 30, "--reduce", "random", "--seeds", "0,1"),
        )

    def bench(self, *options: object) -> Path:
        """A run store."""
        store = self.new("runs")
        whole = ("--resize", "none", "--crop", "none", "--precision", "float32", "--quiet", "--no-gallery")
        rate = ("--fpr", 0.04)  # the least that 24 images can promise, which was the default when it was recorded
        self.succeed("bench", "--data-root", self.images, "--output", store, *whole, *rate, *options)
        return store


RUNS: dict[str, Callable[[World], Outcome]] = {}
"""What to do in a world, by the name of the entry."""


# -- what is recorded of a run -----------------------------------------------------------------------------------------


def of_python(
    world: World, category: str = "gear", *, dims: int, fpr: float | None = None, **parameters: Any
) -> Outcome:
    """Fit, calibrate, predict, save and load in Python."""
    usual: dict[str, Any] = {"resize": None, "crop": None, "precision": "float32"}
    detector = padim_zoo.PaDiM(**now_all(dims=dims, **(usual | parameters)))
    detector.fit(world.train(category))
    calibration = detector.calibrate(**now_all(false_alarm_rate=fpr))
    prediction = detector.predict(world.test(category))
    path = world.new("model.safetensors")
    detector.save(path, **now_all(dtype="float32"))
    loaded = padim_zoo.load(path).predict(world.test(category))
    return {
        "scores": prediction.scores,
        "maps": prediction.maps,
        "threshold": prediction.threshold,
        "out_of_fold_scores": calibration.scores,
        "loaded_scores": loaded.scores,
        "loaded_threshold": loaded.threshold,
    }


def of_model(world: World, model: Path, category: str = "gear", roi: Path | None = None) -> Outcome:
    """What ``predict`` tells of the test images, and the maps behind it."""
    images, target = world.test(category), world.new("scores.json")
    options = () if roi is None else ("--roi", roi)
    world.succeed("predict", model, *images, "--scores", target, "--format", "json", *options)
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert len(rows) == len(images)
    scores, anomalous = ([row[now(f"column {name}")] for row in rows] for name in ("score", "anomalous"))
    maps = padim_zoo.load(model).predict(images, **({} if roi is None else {"roi": roi})).maps
    return {
        "scores": np.array(scores, np.float64),
        "anomalous": "".join("-" if value is None else str(int(value)) for value in anomalous),
        "threshold": rows[0][now("column threshold")],
        "maps": maps,
    }


def of_fit(world: World, *options: object, category: str = "gear") -> Outcome:
    """``fit``, then ``predict``."""
    return of_model(world, world.model(world.train(category), *options), category)


def of_leaderboard(world: World, runs: Path, *options: object, by: tuple[str, ...], figures: Iterable[str]) -> Outcome:
    """Figures of the rows of a leaderboard, each under the names of what it is of."""
    target = world.new("board.json")
    world.succeed("leaderboard", runs, "--format", "json", "--output", target, *options)
    outcome: Outcome = {}
    for row in json.loads(target.read_text(encoding="utf-8")):
        name = " ".join(str(row[now(f"column {column}")]) for column in by)
        values = {f"{name} {figure}": row[now(f"column {figure}")] for figure in figures}
        assert not values.keys() & outcome.keys(), f"two rows {name}"
        outcome |= values
    return dict(sorted(outcome.items()))


# -- the images --------------------------------------------------------------------------------------------------------


def _images(world: World) -> Outcome:
    """If these differ, so does everything else."""
    outcome: Outcome = {}
    for category in CATEGORIES:
        for part, paths in (("train", world.train(category)), ("test", world.test(category))):
            outcome[f"{category} {part} maps"] = np.stack([np.asarray(Image.open(path)) for path in paths]) / 255
    return outcome


RUNS["images"] = _images

# -- PaDiM in Python ---------------------------------------------------------------------------------------------------

ESTIMATORS = {
    "full": "full",
    "shrinkage": spec("shrinkage", rho=0.2),
    "ledoit-wolf": "ledoit-wolf",
    "oas": "oas",
    "diagonal": "diagonal",
    "spherical": "spherical",
    "tied": "tied",
}
FORMS = {"more-images": 20, "fewer-images": 40}
"""Dimensions that 24 images are more than (nested form of ``full``, primal of others), or fewer than (dual form)."""

for _name, _estimator in ESTIMATORS.items():
    for _form, _dims in FORMS.items():
        RUNS[f"padim {_name} {_form}"] = lambda world, estimator=_estimator, dims=_dims: of_python(
            world, dims=dims, estimator=estimator
        )

for _reduce in ("leading", "random", "orthogonal"):
    RUNS[f"padim reduce {_reduce}"] = lambda world, reduce=_reduce: of_python(
        world, "leather", dims=16, reduce=reduce, seed=3
    )
    RUNS[f"padim reduce {_reduce} resnet18"] = lambda world, reduce=_reduce: of_python(
        world, dims=50, reduce=reduce, backbone="resnet18", weights="none", seed=1
    )

RUNS |= {
    "padim resnet18 more images": lambda world: of_python(world, dims=18, backbone="resnet18", weights="none"),
    "padim resize crop": lambda world: of_python(world, dims=20, resize=72, crop=(56, 64)),
    "padim layers": lambda world: of_python(world, dims=20, layers=("stage2", "stage3")),
    "padim sigma": lambda world: of_python(world, dims=20, sigma=2.5),
    "padim edges": lambda world: of_python(world, dims=20, blur_edges="reflect"),
    "padim false alarms": lambda world: of_python(world, dims=20, fpr=0.2),
    "padim augment": lambda world: of_python(world, dims=20, augment="flip,rotate(10),brightness(0.1)", passes=3),
    "padim tta": lambda world: of_python(world, dims=20, tta="flip"),
    "padim roi": lambda world: of_python(world, dims=20, roi=world.mask),
}

# -- models on the command line ----------------------------------------------------------------------------------------


def _half_model(world: World) -> Outcome:
    path = world.new("model.safetensors")
    world.succeed(
        *("fit", *world.train(), "--output", path, "--resize", "none", "--crop", "none", "--precision", "float32"),
        *("--dims", 20, "--estimator", "oas"),
    )
    return of_model(world, path)


def _calibrated(world: World) -> Outcome:
    return of_fit(world, "--dims", 40, "--fpr", 0.1, "--folds", 4, category="leather")


def _trained(world: World) -> Outcome:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return of_fit(world, "--detector", spec("stfpm", epochs=2, train_batch=8))
    finally:
        torch.set_num_threads(threads)


def _differing_regions(world: World) -> Outcome:
    return of_model(world, world.model(world.train(), "--dims", 40, "--roi", world.masks), roi=world.masks)


RUNS |= {
    "fit padim": lambda world: of_fit(world, "--dims", 20),
    "fit padim default": lambda world: of_fit(world, category="leather"),
    "fit padim half": _half_model,
    "fit padim calibrated": _calibrated,
    "fit padim regions": _differing_regions,
    "fit padim augment tta roi": lambda world: of_fit(
        world, "--dims", 20, "--augment", "flip", "--passes", 2, "--tta", "flip,rotate(5)", "--roi", world.mask
    ),
    "fit padim resnet18": lambda world: of_fit(
        world, "--backbone", "resnet18", "--weights", "none", "--estimator", "ledoit-wolf", "--reduce", "random"
    ),
    "fit patchcore": lambda world: of_fit(world, "--detector", spec("patchcore", coreset=0.2, neighbours=3)),
    "fit patchcore default": lambda world: of_fit(world, "--detector", "patchcore"),
    "fit patchcore resnet18": lambda world: of_fit(
        world, "--detector", spec("patchcore", coreset=0.05), "--backbone", "resnet18", "--weights", "none"
    ),
    "fit patchcore roi tta": lambda world: of_fit(
        world, "--detector", spec("patchcore", coreset=0.1), "--roi", world.mask, "--tta", "flip"
    ),
    "fit spade": lambda world: of_fit(world, "--detector", spec("spade", neighbours=5)),
    "fit spade default": lambda world: of_fit(world, "--detector", "spade", category="leather"),
    "fit mahalanobis-ad": lambda world: of_fit(world, "--detector", "mahalanobis-ad"),
    "fit mahalanobis-ad augment": lambda world: of_fit(
        world, "--detector", "mahalanobis-ad", "--augment", "flip", "--passes", 2, category="leather"
    ),
    "fit stfpm": _trained,
}

# -- more images later -------------------------------------------------------------------------------------------------


def _updated(world: World, *options: object, keep: bool = False) -> Outcome:
    images, path = world.train(), world.new("updated.safetensors")
    first = world.model(images[:FIRST], *options)
    world.succeed("update", first, *images[FIRST:], "--output", path, *(["--keep-threshold"] if keep else []))
    return of_model(world, path)


def _merged(world: World, *options: object) -> Outcome:
    images, path = world.train(), world.new("merged.safetensors")
    parts = [world.model(part, *options) for part in (images[:FIRST], images[FIRST:])]
    world.succeed("merge", *parts, "--output", path)
    return of_model(world, path)


RUNS |= {
    "update samples": lambda world: _updated(world, "--dims", 40),
    "update moments": lambda world: _updated(world, "--dims", 8, "--resumable"),
    "update keeps threshold": lambda world: _updated(world, "--dims", 8, "--resumable", keep=True),
    "update orthogonal": lambda world: _updated(world, "--dims", 8, "--reduce", "orthogonal", "--resumable"),
    "update patchcore": lambda world: _updated(world, "--detector", spec("patchcore", coreset=0.1)),
    "update spade": lambda world: _updated(world, "--detector", "spade"),
    "update mahalanobis-ad": lambda world: _updated(world, "--detector", "mahalanobis-ad"),
    "merge samples": lambda world: _merged(world, "--dims", 40),
    "merge moments": lambda world: _merged(world, "--dims", 8, "--resumable"),
}

# -- figures -----------------------------------------------------------------------------------------------------------

IMAGE_FIGURES = ("image_auroc", "image_auroc_low", "image_auroc_high", "image_ap", "image_f1")
PIXEL_FIGURES = ("pixel_auroc", "pixel_ap", "pixel_f1", "aupro")
THRESHOLD_FIGURES = ("threshold", "promised_false_alarms", "false_alarms", "detections")


def _evaluated(world: World, *options: object, category: str = "gear") -> Outcome:
    model = world.model(world.train(category), *options)
    told = world.succeed("evaluate", model, "--data-root", world.images / category, "--json")
    document = json.loads(told.stdout)
    names = (*IMAGE_FIGURES, "image_f1_threshold", *PIXEL_FIGURES, "pixel_f1_threshold")
    outcome = {name: document.get(now(f"column {name}")) for name in names}
    for number, row in enumerate(document[now("column thresholds")]):
        outcome[f"threshold {number}"] = row[now("column score")]
        for name in ("false_alarms", "detections"):
            outcome[f"threshold {number} {name}"] = row[now(f"column {name}")]["count"]
    return outcome


RUNS |= {
    "evaluate padim": lambda world: _evaluated(world, "--dims", 20),
    "evaluate padim leather": lambda world: _evaluated(world, category="leather"),
    "evaluate patchcore": lambda world: _evaluated(world, "--detector", spec("patchcore", coreset=0.2, neighbours=3)),
    "evaluate spade": lambda world: _evaluated(world, "--detector", "spade", category="leather"),
    "evaluate mahalanobis-ad": lambda world: _evaluated(world, "--detector", "mahalanobis-ad"),
}


def _three_folds(world: World) -> Outcome:
    spreads = ("image_auroc_std", "pixel_auroc_std", "aupro_std")
    figures = (*IMAGE_FIGURES, *PIXEL_FIGURES, *spreads, *THRESHOLD_FIGURES, "n_train", "n_test", "status")
    return of_leaderboard(world, world.runs, by=("category", "detector", "estimator"), figures=figures)


def _means(world: World) -> Outcome:
    figures = ("image_auroc", "image_ap", "pixel_auroc", "aupro")
    return of_leaderboard(world, world.runs, "--by", "detector", by=("detector",), figures=figures)


def _seeds(world: World) -> Outcome:
    figures = (*IMAGE_FIGURES, *PIXEL_FIGURES, *THRESHOLD_FIGURES, "n_train", "n_test", "status")
    return of_leaderboard(world, world.seeds, by=("category", "backbone", "seed"), figures=figures)


def _checked(world: World) -> Outcome:
    baseline = world.new("baseline.json")
    codes = {"update": world.run("check", world.runs, "--baseline", baseline, "--update").exit_code}
    lenient = ("--slowdown", "inf", "--memory-growth", "inf")
    codes["same"] = world.run("check", world.runs, "--baseline", baseline, *lenient).exit_code
    codes["other runs"] = world.run("check", world.seeds, "--baseline", baseline, *lenient).exit_code
    return codes


RUNS |= {
    "bench three folds": _three_folds,
    "bench means": _means,
    "bench seeds": _seeds,
    "check": _checked,
}

# -- faulty commands ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A command that cannot do what it is told.

    Attributes
    ----------
    arguments : callable
        A world → the command.
    named : str
        The file, option or value that has to be named in what it says, as an argument of the recorded version.
    """

    arguments: Callable[[World], list[object]]
    named: str


def _fit(world: World, *arguments: object) -> list[object]:
    return ["fit", *arguments, "--output", world.new("never.safetensors")]


def _mixed_sizes(world: World) -> list[object]:
    path = world.new("narrow.png")
    with Image.open(world.train()[0]) as image:
        image.crop((0, 0, 40, 64)).save(path)
    return _fit(world, world.train()[0], path, "--resize", "none", "--crop", "none")


def _broken_data_set(world: World) -> list[object]:
    folder = world.new("data")
    for name in ("train/good", "test/good", "test/crack"):
        (folder / name).mkdir(parents=True)
        (folder / name / "000.png").write_bytes(world.train()[0].read_bytes())
    (folder / "test" / "crack" / "cut.png").write_bytes(world.broken.read_bytes())
    return ["data", "check", folder]


def _mismatching_models(world: World) -> list[object]:
    images = world.train()
    one = world.model(images[:FIRST], "--dims", 40)
    other = world.model(images[FIRST:], "--dims", 40, "--seed", 5, "--reduce", "random")
    odd = world.folder / "odd.safetensors"
    odd.write_bytes(other.read_bytes())
    return ["merge", one, odd, "--output", world.new("never.safetensors")]


FAULTS = {
    "missing folder": Fault(lambda world: _fit(world, world.folder / "nowhere"), "nowhere"),
    "empty folder": Fault(lambda world: _fit(world, world.empty), "empty"),
    "no images named": Fault(lambda world: _fit(world), "--data-root"),
    "unknown backbone": Fault(lambda world: _fit(world, *world.train(), "--backbone", "resnet19"), "resnet19"),
    "unknown estimator": Fault(lambda world: _fit(world, *world.train(), "--estimator", "fulll"), "fulll"),
    "unknown detector": Fault(lambda world: _fit(world, *world.train(), "--detector", "pladim"), "pladim"),
    "unknown parameter": Fault(lambda world: _fit(world, *world.train(), "--detector", "spade(foo=1)"), "foo"),
    "broken image in fit": Fault(lambda world: _fit(world, *world.train(), world.broken), "broken.png"),
    "broken image in predict": Fault(
        lambda world: ["predict", world.model(world.train(), "--dims", 20), *world.test(), world.broken], "broken.png"
    ),
    "images of two sizes": Fault(_mixed_sizes, "narrow.png"),
    "bad resize": Fault(lambda world: _fit(world, *world.train(), "--resize", "large"), "large"),
    "no dimensions": Fault(lambda world: _fit(world, *world.train(), "--dims", 0), "--dims"),
    "unknown reduction": Fault(lambda world: _fit(world, *world.train(), "--reduce", "any"), "any"),
    "bad false-alarm rate": Fault(lambda world: _fit(world, *world.train(), "--fpr", 2), "2"),
    "bad augmentation": Fault(lambda world: _fit(world, *world.train(), "--augment", "spin"), "spin"),
    "missing region": Fault(lambda world: _fit(world, *world.train(), "--roi", "no-mask.png"), "no-mask.png"),
    "unknown option": Fault(lambda world: _fit(world, *world.train(), "--bogus"), "--bogus"),
    "no output": Fault(lambda world: ["fit", *world.train()], "--output"),
    "unknown command": Fault(lambda world: ["fitt"], "fitt"),
    "not a model": Fault(lambda world: ["predict", world.mask, *world.test()], "mask.png"),
    "missing model": Fault(
        lambda world: ["evaluate", "none.safetensors", "--data-root", world.images / "gear"], "none.safetensors"
    ),
    "merge of one": Fault(
        lambda world: ["merge", world.model(world.train(), "--dims", 40), "--output", world.new("never.safetensors")],
        "model",
    ),
    "merge of mismatching models": Fault(_mismatching_models, "odd.safetensors"),
    "update without moments": Fault(
        lambda world: [
            "update",
            world.model(world.train(), "--dims", 20),
            world.images / "gear/test/good",
            "--in-place",
        ],
        "--resumable",
    ),
    "unknown category": Fault(lambda world: ["bench", "--data-root", world.images, "--categories", "geer"], "geer"),
    "missing suite": Fault(lambda world: ["bench", "--config", "none.yaml"], "none.yaml"),
    "missing run store": Fault(lambda world: ["leaderboard", world.folder / "no-runs"], "no-runs"),
    "unknown column": Fault(lambda world: ["leaderboard", world.runs, "--sort", "beauty"], "beauty"),
    "check without baseline": Fault(lambda world: ["check", world.runs], "--baseline"),
    "check with missing baseline": Fault(lambda world: ["check", world.runs, "--baseline", "none.json"], "none.json"),
    "broken image in data check": Fault(_broken_data_set, "cut.png"),
}
"""Faulty commands by the name of the entry."""


def exit_code_of(world: World, fault: Fault) -> int:
    """The exit code of a faulty command, which has to name what is wrong and must not end in a traceback."""
    result = world.run(*fault.arguments(world))
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert now(fault.named) in result.output, f"{now(fault.named)} is not named: {result.output}"
    return result.exit_code


# -- how outcomes are written down -------------------------------------------------------------------------------------

PIXELS = 16


def recorded(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON holds it: scores in full, maps as their mean, maximum and some pixels."""
    written: dict[str, Any] = {}
    for name, value in outcome.items():
        if value is not None and name.endswith("maps"):
            flat = np.asarray(value, np.float64).ravel()
            pixels = flat[np.linspace(0, len(flat) - 1, PIXELS).round().astype(int)]
            written[name] = _number([flat.mean(), flat.max(), *pixels])
        else:
            written[name] = _number(value)
    return written


def _number(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_number(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.8g}")
    return int(value) if isinstance(value, np.integer) else value
