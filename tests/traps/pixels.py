"""Image files whose pixels are not what they seem."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from padim_zoo.data.image import read_image
from tests.traps.drawing import KIND, save
from tests.traps.trap import trap
from tests.traps.world import Outcome, World, has_figures, is_told

ORIENTATION = 0x0112


def _convert(folder: Path, change: Callable[[Path, np.ndarray], None]) -> Path:
    """Write all images of a category anew."""
    for where in ("train/good", "test/good", f"test/{KIND}"):
        for path in sorted((folder / where).iterdir()):
            change(path, read_image(path))
    return folder


def _gray(image: np.ndarray) -> np.ndarray:
    gray: np.ndarray = image.mean(axis=2).round().astype(np.uint8)
    return gray


@trap("10 bits in 16-bit files")
def bits10(world: World) -> Outcome:
    as8 = _convert(world.copy("bits8"), lambda path, image: Image.fromarray(_gray(image)).save(path))
    deep = _convert(world.copy("bits10"), lambda path, image: Image.fromarray(_deep(image)).save(path))
    right = world.figures(world.fit(as8 / "train" / "good"), as8)
    return has_figures(world.evaluate(world.fit(deep / "train" / "good"), deep), right, tolerance=0.01)


def _deep(image: np.ndarray) -> np.ndarray:
    deep: np.ndarray = (_gray(image).astype(np.float64) * 1023 / 255).round().astype(np.uint16)
    return deep


@trap("pixels under full transparency")
def hidden_pixels(world: World) -> Outcome:
    rng = np.random.default_rng(0)

    def cut_out(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        y, x = np.mgrid[:height, :width]
        outside = np.hypot((y / height - 0.5), (x / width - 0.5)) > 0.48
        alpha = np.where(outside, 0, 255).astype(np.uint8)
        return np.dstack([np.where(outside[..., None], hidden, image), alpha])

    def clutter(path: Path, image: np.ndarray) -> None:
        save(cut_out(image, rng.integers(0, 256, image.shape, dtype=np.uint8)), path)

    def black(path: Path, image: np.ndarray) -> None:
        save(cut_out(image, np.zeros_like(image))[..., :3], path)

    cluttered, plain = _convert(world.copy("clutter"), clutter), _convert(world.copy("black"), black)
    right = world.figures(world.fit(plain / "train" / "good"), plain)
    ran = world.evaluate(world.fit(cluttered / "train" / "good"), cluttered)
    return has_figures(ran, right, "transparent")


def _turned(world: World, name: str, orientation: int, turn: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A category whose images are stored turned, with a tag that says so; so are their masks, without one."""

    def store(path: Path, image: np.ndarray) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.fromarray(turn(image)).save(path, exif=exif)

    folder = _convert(world.copy(name), store)
    for path in (folder / "ground_truth" / KIND).iterdir():
        save(turn(np.asarray(Image.open(path))), path)
    return folder


@trap("images upside down by EXIF, masks not")
def exif_upside_down(world: World) -> Outcome:
    folder = _turned(world, "exif3", 3, lambda stored: np.ascontiguousarray(stored[::-1, ::-1]))
    told = world.evaluate(world.model, folder)
    if not told.says("--mask-orientation"):
        return Outcome(told.line, "says --mask-orientation", False)
    return has_figures(world.evaluate(world.model, folder, "--mask-orientation", "stored"), world.sound)


@trap("images on their side by EXIF, masks not")
def exif_on_its_side(world: World) -> Outcome:
    folder = _turned(world, "exif6", 6, lambda stored: np.ascontiguousarray(np.rot90(stored)))
    told = world.evaluate(world.model, folder)
    square = (
        read_image(world.base / "test/good/000.png").shape[0] == read_image(world.base / "test/good/000.png").shape[1]
    )
    if square and not told.says("--mask-orientation"):
        return Outcome(told.line, "says --mask-orientation", False)
    options = ("--mask-orientation", "stored") if square else ()
    return has_figures(world.evaluate(world.model, folder, *options), world.sound)


@trap("a PNG with a long text")
def long_text(world: World) -> Outcome:
    folder = world.copy("text") / "train" / "good"
    text = PngInfo()
    text.add_text("notes", "word " * 400_000, zip=True)
    image = Image.open(folder / "001.png")
    image.load()
    image.save(folder / "001.png", pnginfo=text)
    return is_told(world.try_fit(folder), f"on {len(list(folder.iterdir()))} normal images")


@trap("white as zero in a TIFF")
def white_is_zero(world: World) -> Outcome:
    folder = world.folder / "tiffs"
    folder.mkdir()
    gray = _gray(read_image(world.base / "test/good/000.png")).astype(np.uint16) * 257
    Image.fromarray(gray).save(folder / "black_is_zero.tif", tiffinfo={262: 1})
    Image.fromarray(65535 - gray).save(folder / "white_is_zero.tif", tiffinfo={262: 0})
    ran = world.run("predict", world.model, folder, "--no-cache")
    scores = re.findall(r"is_zero\.tif\"?,([\d.e+-]+)", ran.stdout)
    equal = len(scores) == 2 and bool(np.isclose(float(scores[0]), float(scores[1]), rtol=1e-5))
    return Outcome(" and ".join(scores), "equal scores", equal)


@trap("images of several pages")
def pages(world: World) -> Outcome:
    folder = world.copy("pages") / "train" / "good"
    image = Image.open(folder / "000.png")
    image.save(folder / "000.tif", save_all=True, append_images=[image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    (folder / "000.png").unlink()
    return is_told(world.try_fit(folder), "several pages")


@trap("images in CMYK")
def cmyk(world: World) -> Outcome:
    folder = world.copy("cmyk") / "train" / "good"
    Image.open(folder / "000.png").convert("CMYK").save(folder / "000.jpg")
    (folder / "000.png").unlink()
    return is_told(world.try_fit(folder), "CMYK")
