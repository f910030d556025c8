"""Make the pictures of the documentation again, of the synthetic data set alone.

    padim-zoo bench --no-cache --detectors padim,patchcore --categories cable,fabric,gear --output runs
    python tools/make_images.py runs --output docs/images

``leaderboard.svg`` is what ``padim-zoo leaderboard runs --sort image_auroc`` shows on a terminal; ``roc.svg`` is
``padim-zoo plot runs --kind roc``; ``panels.jpg`` and ``kinds.jpg`` are pictures of predictions.
Costs are those of the machine that filled the store.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme

from padim_zoo import registry
from padim_zoo.bench.leaderboard import leaderboard, sort_rows
from padim_zoo.bench.store import RunStore
from padim_zoo.bench.table import BoardTable
from padim_zoo.data.image import read_image
from padim_zoo.data.mask import read_mask
from padim_zoo.data.sample import Sample
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.pictures.colormap import heat_map
from padim_zoo.pictures.drawing import frame, panels
from padim_zoo.pictures.overlays import boundary, highlight, overlay
from padim_zoo.report.plots import plot

SHOWN = (("gear", "missing", 1), ("fabric", "scratch", 1), ("gear", "good", 0))
"""Category, kind and number of the images in panels.jpg: a normal one has to look normal."""

# Contrast of every color against the background is at least 4.5 to 1.
THEME = TerminalTheme(
    (16, 20, 28),
    (222, 226, 232),
    [
        (16, 20, 28),
        (238, 102, 102),
        (94, 206, 134),
        (230, 190, 90),
        (110, 160, 240),
        (200, 140, 230),
        (90, 190, 215),
        (222, 226, 232),
    ],
    [
        (140, 148, 160),
        (245, 130, 130),
        (130, 230, 160),
        (245, 210, 120),
        (140, 185, 250),
        (220, 170, 245),
        (130, 215, 235),
        (255, 255, 255),
    ],
)


@click.command()
@click.argument("runs", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs/images"), show_default=True)
def main(runs: Path, output: Path) -> None:
    """Write the pictures of the documentation into a folder."""
    output.mkdir(parents=True, exist_ok=True)
    board = sort_rows(leaderboard(RunStore(runs).read_all().documents), "image_auroc")
    command = "padim-zoo leaderboard runs --sort image_auroc"
    save_terminal(BoardTable(board, "image_auroc", bars=True), output / "leaderboard.svg", command)
    plot(RunStore(runs), "roc", output / "roc.svg")
    draw_predictions(output)
    for path in sorted(output.iterdir()):
        click.echo(f"{path} {path.stat().st_size / 1e3:.0f} kB")


def save_terminal(shown: RenderableType, path: Path, title: str, width: int = 116) -> None:
    """What a terminal shows, as SVG that needs no network: the fonts that rich would fetch are left out."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(shown)
    text = console.export_svg(title=title, theme=THEME, unique_id=path.stem)
    text = re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL)
    text = text.replace("Fira Code, monospace", "'Fira Code', 'DejaVu Sans Mono', Menlo, Consolas, monospace")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")


def draw_predictions(output: Path) -> None:
    """The five panels of a few images, each category on its own scale, and every kind of picture of one image."""
    dataset = registry.datasets.create("synthetic", root=None)
    detectors: dict[str, PaDiM] = {}
    strips: list[np.ndarray] = []
    for category, kind, number in SHOWN:
        samples = dataset.load(category)
        if category not in detectors:
            detectors[category] = PaDiM(backbone="builtin", estimator="ledoit-wolf")
            detectors[category].fit([sample.path for sample in samples.train]).calibrate(false_alarm_rate=0.05)
        detector = detectors[category]
        sample = [sample for sample in samples.test if sample.kind == kind][number]
        strips.append(panels_of(detector, sample, captions=not strips))
        if len(strips) == 1:
            save_jpeg(kinds_of(detector, sample), output / "kinds.jpg", 1200)
    save_jpeg(np.concatenate(strips), output / "panels.jpg", 1000)


def panels_of(detector: PaDiM, sample: Sample, *, captions: bool) -> np.ndarray:
    """The five panels of an image."""
    raw = read_image(sample.path)
    prediction = detector.predict([sample.path])
    mask = read_mask(sample.masks, raw.shape[:2]) if sample.masks else np.zeros(raw.shape[:2], dtype=bool)
    assert prediction.maps is not None
    assert prediction.scale is not None
    assert prediction.map_threshold is not None
    image = detector.transform.image(raw)
    drawn = panels(image, detector.transform.mask(mask), prediction.maps[0], prediction.scale, prediction.map_threshold)
    gap = max(2, image.shape[0] // 48)
    return drawn if captions else drawn[-(image.shape[0] + gap) :]


def kinds_of(detector: PaDiM, sample: Sample) -> np.ndarray:
    """Heat map, overlay, boundary, highlight and frame side by side."""
    prediction = detector.predict([sample.path])
    assert prediction.maps is not None
    assert prediction.scale is not None
    assert prediction.map_threshold is not None
    assert prediction.threshold is not None
    image, anomaly_map = detector.transform.image(read_image(sample.path)), prediction.maps[0]
    framed = frame(image, float(prediction.scores[0]), prediction.threshold)
    pictures = [
        heat_map(anomaly_map, prediction.scale),
        overlay(image, anomaly_map, prediction.scale),
        boundary(image, anomaly_map, prediction.map_threshold),
        highlight(image, anomaly_map, prediction.map_threshold),
        framed,
    ]
    width = sum(picture.shape[1] for picture in pictures) + 8 * (len(pictures) - 1)
    sheet = np.full((framed.shape[0], width, 3), 255, dtype=np.uint8)
    left = 0
    for picture in pictures:
        height = picture.shape[0]
        top = (framed.shape[0] - height) // 2 if height < framed.shape[0] else 0
        sheet[top : top + height, left : left + picture.shape[1]] = picture
        left += picture.shape[1] + 8
    return sheet


def save_jpeg(picture: np.ndarray, path: Path, width: int) -> None:
    """Write a picture at a width that a page shows."""
    image = Image.fromarray(picture)
    height = round(image.height * width / image.width)
    image.resize((width, height), Image.Resampling.LANCZOS).save(path, quality=80, optimize=True)


if __name__ == "__main__":
    main()
