"""Hide defects among the normal images, find them again, take them out: what each step is worth.

    python benchmarks/dirty.py
    python benchmarks/dirty.py --data DIR --weights FILE

Of every category below DIR, and of drawn ones, a share of the training images is replaced by none, some or many of the
test set's defects, at most half of these. Each draw hides others. A row is the mean over the draws: how many defects
were hidden, which share of the suspects are defects (precision), which share of the defects are suspects (recall), the
share of defects among as many highest scores as there are defects (ranked), and image AUROC, pixel AUROC and AUPRO of a
fit on the clean images, on all, on all but the suspects, and with as large a share trimmed as was hidden (else 5 %): of
the images, or, of at most a hundred images, at each patch. The defects that were hidden are in no test. Below it stand
the processor time of leave-one-out beside that of a fit, and how far `forget` is from a fit without.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from script_options import LEAST_SIDE

from padim_zoo import PaDiM
from padim_zoo.cli.table import show_table
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.sample import Category
from padim_zoo.data.synthetic import generate
from padim_zoo.detectors.learned_images import LearnedImages
from padim_zoo.detectors.scoring import score_views
from padim_zoo.detectors.suspects import find_suspects
from padim_zoo.detectors.trimming import trim_images
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.metrics import evaluate
from padim_zoo.registry import datasets
from padim_zoo.statistics.samples import Samples

DRAWN = ("board", "fabric", "gear")
METRICS = {"image_auroc": "AUROC", "pixel_auroc": "pixel", "aupro": "AUPRO"}
MOST_PIXELS = 10**7
"""Of test images, up to which pixel AUROC and AUPRO are computed."""

MOST_TRIMMED = 100
"""Images up to which patches are trimmed."""


def categories(data: Path | None, drawn: Path) -> list[Category]:
    """Those below a folder, then drawn ones."""
    found: list[Category] = []
    for root in sorted({train.parent for train in data.rglob("train") if train.is_dir()} if data else ()):
        dataset = datasets.create("folder", root=root)
        found += [dataset.load(name) for name in dataset.categories()]
    generate(drawn, categories=list(DRAWN), train=60, good=12, defects_per_kind=8, size=256, seed=0)
    dataset = datasets.create("folder", root=drawn)
    return found + [dataset.load(name) for name in dataset.categories()]


class Dirty:
    """A category whose images were all seen by the backbone once."""

    def __init__(self, category: Category, estimator: str, weights: str | None, size: int | None) -> None:
        self.category = category
        self.detector = PaDiM(estimator=estimator, precision="float32")
        if weights is not None:
            self.detector.set_params(backbone="resnet18", weights=weights)
        if size is not None:
            self.detector.set_params(resize=(size, size), crop=None)
        self.train = [sample.path for sample in category.train]
        self.bad = [sample for sample in category.test if sample.label]
        self.good = [sample for sample in category.test if not sample.label]
        started = time.process_time()
        paths = [*self.train, *(sample.path for sample in (*self.bad, *self.good))]
        self.detector.fit(paths)
        self.seconds_of_features = (time.process_time() - started) / len(paths) * len(self.train)
        statistics = self.detector.statistics_
        assert isinstance(statistics, Samples)
        self.embeddings: PatchEmbeddings = statistics.embeddings
        self.masks = masks([*self.bad, *self.good], self.detector.transform)

    def fitted_on(self, images: np.ndarray) -> PaDiM:
        """The detector of some of the images."""
        self.detector.set_statistics(Samples(self.embeddings.images(images)), LearnedImages(len(images)))
        return self.detector

    def accuracy(self, images: np.ndarray, test: np.ndarray, trim_patches: float | None = None) -> dict[str, float]:
        """Image AUROC, pixel AUROC and AUPRO of a fit on some images."""
        detector = self.fitted_on(images).set_params(trim_patches=trim_patches)
        prediction = score_views(detector, detector.model_, self.embeddings.images(test))
        labels = (test < len(self.train) + len(self.bad)).astype(int)
        detector.set_params(trim_patches=None)
        own = [self.masks[image] for image in test - len(self.train)]
        if prediction.maps is None or prediction.maps.size > MOST_PIXELS:
            values = evaluate(labels, prediction.scores).values
        else:
            values = evaluate(labels, prediction.scores, prediction.maps, own).values
        return {label: values.get(name, float("nan")) for name, label in METRICS.items()}

    def draw(self, share: float, rng: np.random.Generator) -> dict[str, float] | None:
        """One draw; None if that takes no defect, or more than half of them."""
        n = len(self.train)
        count = min(round(share / (1 - share) * n), len(self.bad) // 2)
        if share and count < 0.9 * share / (1 - share) * n:
            return None
        hidden = n + rng.permutation(len(self.bad))[:count]
        images = np.concatenate([np.arange(n), hidden])
        found = find_suspects(self.fitted_on(images))
        suspected, defects = images[found.suspected], images >= n
        rest = images[~found.suspected]
        test = np.setdiff1d(np.arange(n, self.embeddings.n), hidden)
        trimmed_share = share or 0.05
        kept = np.delete(images, trim_images(self.fitted_on(images), trimmed_share).images)
        accuracy = {
            "clean": self.accuracy(images[:n], test),
            "dirty": self.accuracy(images, test),
            "mended": self.accuracy(rest, test),
            "trim": self.accuracy(kept, test),
        }
        if len(images) <= MOST_TRIMMED:
            accuracy["patches"] = self.accuracy(images, test, trimmed_share)
        nan = float("nan")
        return {
            "defects": count,
            "suspects": len(suspected),
            "precision": (suspected >= n).mean() if len(suspected) else nan,
            "recall": found.suspected[defects].mean() if count else nan,
            "ranked": defects[found.ranking[:count]].mean() if count else nan,
            "images": len(images),
            "tested": len(test),
            **{f"{metric} {fit}": value for fit, values in accuracy.items() for metric, value in values.items()},
        }

    def costs(self) -> dict[str, Any]:
        """Seconds of a fit and of leave-one-out, and how far forgetting is from never having seen."""
        n = len(self.train)
        detector = self.fitted_on(np.arange(n))
        started = time.process_time()
        detector.model_  # noqa: B018
        fitted = time.process_time()
        find_suspects(detector)
        done = time.process_time()
        some = [*self.train[:30], *(sample.path for sample in self.bad[:3])]
        parameters = detector.get_params(deep=False)
        forgetful, never = PaDiM(**parameters).fit(some), PaDiM(**parameters).fit(some[:30])
        forgetful.forget(some[30:])
        ours, theirs = (one.predict(some).scores for one in (forgetful, never))
        thresholds = [one.calibrate().threshold for one in (forgetful, never)]
        return {
            "features s": self.seconds_of_features,
            "Gaussians s": fitted - started,
            "leave-one-out s": done - fitted,
            "of Gaussians": (done - fitted) / (fitted - started),
            "of a fit": (done - fitted) / (self.seconds_of_features + fitted - started),
            "forget: scores": float(np.abs(ours / theirs - 1).max()),
            "forget: threshold": abs(thresholds[0] / thresholds[1] - 1),
        }


def mean_of(draws: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over the draws that have it."""
    means = {}
    for name in draws[0]:
        values = np.array([draw[name] for draw in draws], dtype=float)
        means[name] = round(float(np.nanmean(values)), 3) if np.isfinite(values).any() else float("nan")
    return means


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Real categories.")
@click.option("--weights", help="Weights of a resnet18 for them.")
@click.option("--estimators", default="full,diagonal", show_default=True)
@click.option("--shares", default="0,0.01,0.05,0.1,0.2", show_default=True, help="Shares of defects.")
@click.option("--draws", type=click.IntRange(1), default=5, show_default=True)
@click.option("--size", type=click.IntRange(LEAST_SIDE), help="Side of the images in pixels.")
@click.option("--only", default="", help="Categories whose names hold this text.")
def main(
    data: Path | None, weights: str | None, estimators: str, shares: str, draws: int, size: int | None, only: str
) -> None:
    """Print both tables."""
    rows: list[dict[str, object]] = []
    costs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for category in categories(data, Path(folder) / "drawn"):
            if only not in category.name:
                continue
            for estimator in estimators.split(","):
                dirty = Dirty(category, estimator, None if category.name in DRAWN else weights, size)
                names: dict[str, object] = {"category": category.name, "estimator": estimator}
                for share in map(float, shares.split(",")):
                    seeds = range(draws if share else 1)
                    parts = [dirty.draw(share, np.random.default_rng(seed)) for seed in seeds]
                    if parts[0] is not None:
                        known = [part for part in parts if part]
                        sums = {f"all {name}": sum(part[name] for part in known) for name in ("defects", "suspects")}
                        rows.append(names | {"share": share, "draws": len(known)} | sums | mean_of(known))
                        click.echo(f"{rows[-1]}", err=True)
                costs.append({**names, **dirty.costs()})
                click.echo(f"{costs[-1]}", err=True)
    show_table(rows)
    click.echo("")
    show_table(costs)
    sys.exit(any(cost["forget: scores"] > 1e-5 for cost in costs))


if __name__ == "__main__":
    main()
