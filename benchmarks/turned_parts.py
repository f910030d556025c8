"""A copy of a category of MVTec AD's layout in which every part lies turned and shifted at random, masks with it.

python benchmarks/turned_parts.py ballscrew turned/ballscrew --degrees 25 --side 320 --train 100 --test 80
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates
from script_options import LEAST_SIDE, Parser, whole, within

from padim_zoo.core.errors import InputError
from padim_zoo.data.image import read_image


def turned(array: np.ndarray, side: int, pose: tuple[float, float, float]) -> np.ndarray:
    """A square of a photo (H, W, 3) or mask (H, W), uint8, (side, side, …).

    Photos are read by cubic splines at their own resolution, and mirrored where they end.
    """
    angle, dx, dy = pose
    y, x = np.meshgrid(*[np.arange(side) + 0.5 - side / 2] * 2, indexing="ij")
    x, y = x - dx, y - dy
    u, v = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    at = [v + array.shape[0] / 2 - 0.5, u + array.shape[1] / 2 - 0.5]
    if array.ndim == 2:
        return np.asarray(map_coordinates(array, at, order=0, mode="constant"))
    channels = [map_coordinates(array[..., c].astype(float), at, order=3, mode="reflect") for c in range(3)]
    return np.asarray(np.stack(channels, 2).clip(0, 255).round().astype(np.uint8))


def mask_of(image: Path, source: Path) -> Path:
    """The mask of an anomalous image."""
    folder = source / "ground_truth" / image.parent.name
    for path in folder.glob(f"{image.stem}*"):
        return path
    raise InputError(f"{image} has no mask: expected {folder / image.stem}_mask.png")


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--degrees", type=within(0, 180), default=180, help="turned by up to so many, either way (180)")
    parser.add_argument(
        "--shift", type=within(0, 0.5), default=0.04, help="shifted by up to this share of the side (0.04)"
    )
    parser.add_argument(
        "--side", type=whole(LEAST_SIDE), help="of the square that is cut out, in pixels; the shorter one of a photo"
    )
    parser.add_argument("--train", type=whole(), default=100, help="normal images, evenly drawn (100)")
    parser.add_argument("--test", type=whole(), default=80, help="images of each kind, evenly drawn (80)")
    parser.add_argument("--seed", type=whole(0), default=0)
    arguments = parser.parse_args()
    missing = [part for part in ("train/good", "test") if not (arguments.source / part).is_dir()]
    if missing:
        parser.error(f"{arguments.source} has no folder {missing[0]}: expected a category in MVTec AD's layout")
    if arguments.target.exists():
        parser.error(f"{arguments.target} is there already: name another folder")
    bounds = {"degrees": (0, 180), "shift": (0, 0.5), "side": (32, 4096), "train": (1, 10**6), "test": (1, 10**6)}
    for name, (least, most) in bounds.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:  # nor is NaN
            parser.error(f"--{name} is {value}: expected {least} to {most}")
    arguments.target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.target.parent, prefix=".turned-") as draft:
        try:
            turn_category(arguments, Path(draft, "category"))
        except (InputError, OSError) as error:  # of a mask the latter
            parser.error(str(error))
        Path(draft, "category").rename(arguments.target)


def turn_category(arguments: argparse.Namespace, target: Path) -> None:
    """Write the turned images and masks of a category."""
    rng = np.random.default_rng(arguments.seed)
    folders = [each for part in ("train", "test") for each in (arguments.source / part).iterdir() if each.is_dir()]
    for folder in sorted(folders):
        images, part = sorted(folder.iterdir()), folder.parent.name
        most = min(len(images), arguments.train if part == "train" else arguments.test)
        if not images:
            raise InputError(f"{folder} holds no images")
        for image in (images[i] for i in np.unique(np.linspace(0, len(images) - 1, most).astype(int))):
            photo = read_image(image)
            side = arguments.side or min(photo.shape[:2])
            angle, *shift = rng.uniform(-1, 1, 3) * [math.radians(arguments.degrees), *[arguments.shift * side] * 2]
            pose = float(angle), float(shift[0]), float(shift[1])
            files = {target / part / folder.name / f"{image.stem}.png": turned(photo, side, pose)}
            if folder.name != "good":
                mask = turned(np.asarray(Image.open(mask_of(image, arguments.source)).convert("L")), side, pose)
                if not mask.any():  # the defect lies beyond the square
                    continue
                name = f"{image.stem}_mask.png"
                files[target / "ground_truth" / folder.name / name] = (mask > 0).astype(np.uint8) * 255
            for file, array in files.items():
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(file)


if __name__ == "__main__":
    main()
