"""Masks and regions of interest of another encoding, and marks that a resize tears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from padim_zoo.data.image import read_image
from tests.traps.drawing import KIND, save
from tests.traps.trap import trap
from tests.traps.world import Outcome, World, has_figures, is_refused, is_told


def _with_masks(world: World, name: str, change: Callable[[Path, np.ndarray], object]) -> Path:
    """A copy whose masks (H, W), bool, are written otherwise."""
    folder = world.copy(name)
    for path in sorted((folder / "ground_truth" / KIND).iterdir()):
        marked = np.asarray(Image.open(path)) > 0
        path.unlink()
        change(path, marked)
    return folder


@trap("inverted masks")
def inverted(world: World) -> Outcome:
    folder = _with_masks(world, "inverted", lambda path, marked: save(np.uint8(255) * ~marked, path))
    return is_told(world.evaluate(world.model, folder), "mark most of the image")


@trap("masks in JPEG")
def jpeg(world: World) -> Outcome:
    def change(path: Path, marked: np.ndarray) -> None:
        Image.fromarray(np.uint8(255) * marked).save(path.with_suffix(".jpg"), quality=75)

    ran = world.evaluate(world.model, _with_masks(world, "jpeg", change))
    return has_figures(ran, world.sound, "many gray levels", tolerance=0.005)


@trap("masks of several pages")
def pages(world: World) -> Outcome:
    def change(path: Path, marked: np.ndarray) -> None:
        empty, page = Image.new("L", marked.shape[::-1]), Image.fromarray(np.uint8(255) * marked)
        empty.save(path.with_suffix(".tif"), save_all=True, append_images=[page])

    return has_figures(world.evaluate(world.model, _with_masks(world, "mask_pages", change)), world.sound, "pages")


@trap("masks in the alpha channel")
def alpha(world: World) -> Outcome:
    def change(path: Path, marked: np.ndarray) -> None:
        color = np.full((*marked.shape, 3), 200, dtype=np.uint8)
        save(np.dstack([color, np.uint8(255) * marked]), path)

    return has_figures(world.evaluate(world.model, _with_masks(world, "alpha", change)), world.sound, "alpha")


@trap("masks with classes 1 and 2")
def classes(world: World) -> Outcome:
    folder = _with_masks(world, "classes", lambda path, marked: save(np.uint8(1) + marked.astype(np.uint8), path))
    return is_refused(world.evaluate(world.model, folder), "mask.png")


@trap("masks drawn on the photograph")
def overlays(world: World) -> Outcome:
    def change(path: Path, marked: np.ndarray) -> None:
        image = read_image(world.base / "test" / KIND / path.name.replace("_mask", ""))
        save(np.where(marked[..., None], np.array([255, 0, 0], dtype=np.uint8), image), path)

    return is_refused(world.evaluate(world.model, _with_masks(world, "overlays", change)), "mask.png")


@trap("16-bit masks")
def deep(world: World) -> Outcome:
    folder = _with_masks(world, "deep", lambda path, marked: save(np.uint16(1) * marked, path))
    return has_figures(world.evaluate(world.model, folder), world.sound)


@trap("masks whose white is zero")
def white_is_zero(world: World) -> Outcome:
    def change(path: Path, marked: np.ndarray) -> None:
        stored = np.uint16(65535) * ~marked
        Image.fromarray(stored).save(path.with_suffix(".tif"), tiffinfo={262: 0})

    return has_figures(world.evaluate(world.model, _with_masks(world, "white", change)), world.sound)


@trap("empty masks of defects")
def unmarked(world: World) -> Outcome:
    folder = _with_masks(world, "unmarked", lambda path, marked: save(np.uint8(0) * marked, path))
    return is_told(world.evaluate(world.model, folder), "mark no pixel")


@trap("a region of interest in alpha")
def roi_in_alpha(world: World) -> Outcome:
    height, width = read_image(world.base / "test/good/000.png").shape[:2]
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2, x - width / 2) < 0.45 * min(height, width)
    right = save(np.uint8(255) * inside, world.folder / "roi" / "right.png")
    color = np.full((height, width, 3), 90, dtype=np.uint8)
    other = save(np.dstack([color, np.uint8(255) * inside]), world.folder / "roi" / "alpha.png")
    figures = world.figures(world.model, world.base, "--roi", right)
    return has_figures(world.evaluate(world.model, world.base, "--roi", other), figures)


@trap("a mark narrower than the resize")
def narrow(world: World) -> Outcome:
    folder = world.copy("narrow")
    for path in sorted((folder / "test" / KIND).iterdir()):
        big = np.asarray(Image.fromarray(read_image(path)).resize((512, 512)))
        line = np.zeros((512, 512), dtype=bool)
        diagonal = np.arange(60, 440)
        line[diagonal, 500 - diagonal] = True
        save(np.where(line[..., None], np.uint8(20), big), path)
        save(np.uint8(255) * line, folder / f"ground_truth/{KIND}/{path.stem}_mask.png")
    return _one_region_each(world, folder, len(list((folder / "test" / KIND).iterdir())))


def _one_region_each(world: World, folder: Path, regions: int) -> Outcome:
    from padim_zoo.data.ground_truth import masks
    from padim_zoo.data.transform import Transform
    from padim_zoo.registry import datasets

    dataset = datasets.create("folder", root=folder)
    samples = [sample for sample in dataset.load(dataset.categories()[0]).test if sample.masks]
    found = [np.unique(mask[mask > 0]) for mask in masks(samples, Transform(64, None)) if mask is not None]
    count = sum(map(len, found))
    return Outcome(f"{count} regions", f"{regions} regions", count == regions)


@trap("touching regions in files of their own")
def touching(world: World) -> Outcome:
    def change(path: Path, marked: np.ndarray) -> None:
        y = np.flatnonzero(marked.any(1))
        half = np.zeros_like(marked)
        half[: (y[0] + y[-1] + 1) // 2] = True
        folder = path.parent / path.stem.replace("_mask", "")
        save(np.uint8(255) * (marked & half), folder / "000.png")
        save(np.uint8(255) * (marked & ~half), folder / "001.png")

    folder = _with_masks(world, "touching", change)
    marked = [path for path in (folder / "ground_truth" / KIND).glob("*/*.png") if np.asarray(Image.open(path)).any()]
    return _one_region_each(world, folder, len(marked))
