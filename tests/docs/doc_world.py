"""What the commands of the documentation find when they start."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import torch
from click.testing import CliRunner
from doc_shrink import DEFECTS, GOOD, SIZE, TRAIN, shrink
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torchvision.models import resnet18

from padim_zoo.cli.main import main
from padim_zoo.data.synthetic import generate


class World:
    """Makes each starting point once and puts a copy into the folder of a page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn = folder / "drawn"
        generate(self.drawn, categories=[], train=TRAIN, good=GOOD, defects_per_kind=DEFECTS, size=SIZE)

    def furnish(self, folder: Path, names: list[str]) -> None:
        """Copy starting points into a folder.

        Raises
        ------
        KeyError
            If there is no starting point of that name.
        """
        for name in names:
            STARTING_POINTS[name]
            source = self.make(name)
            if source.is_dir():
                shutil.copytree(source, folder / name)
            else:
                shutil.copy(source, folder / name)

    def make(self, name: str) -> Path:
        """Where a starting point is, after making it if need be."""
        path = self.folder / name
        if not path.exists():
            STARTING_POINTS[name](self, path)
        return path

    def images(self, path: Path) -> None:
        """One category of drawn images, in the layout of MVTec AD."""
        generate(path, categories=["gear"], train=TRAIN, good=GOOD, defects_per_kind=DEFECTS, size=SIZE)

    def photos(self, path: Path) -> None:
        """Two plain folders."""
        gear = self.make("images") / "gear"
        shutil.copytree(gear / "train" / "good", path / "fine")
        shutil.copytree(gear / "test" / "crack", path / "faulty")

    def mask(self, path: Path) -> None:
        """A region of interest in the middle of the images."""
        mask = Image.new("L", (SIZE, SIZE))
        ImageDraw.Draw(mask).ellipse((SIZE // 8, SIZE // 8, 7 * SIZE // 8, 7 * SIZE // 8), fill=255)
        mask.save(path)

    def resnet18(self, path: Path) -> None:
        """A file of weights as one downloads it, though untrained."""
        torch.manual_seed(0)
        save_file(resnet18(weights=None).state_dict(), path)

    def model(self, path: Path) -> None:
        """A detector of gears, with its threshold."""
        _run("fit", self.make("images") / "gear" / "train" / "good", "--output", path)

    def runs(self, path: Path) -> None:
        """A run store: two estimators, two folds."""
        _run(
            "bench", "--data-root", self.make("images"), "--estimators", "full,diagonal", "--folds", 2, "--output", path
        )


def _run(*arguments: object) -> None:
    words = shrink([str(argument) for argument in arguments], drawn="")
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}"


STARTING_POINTS = {
    "images": World.images,
    "photos": World.photos,
    "mask.png": World.mask,
    "resnet18.safetensors": World.resnet18,
    "gear.safetensors": World.model,
    "runs": World.runs,
}
