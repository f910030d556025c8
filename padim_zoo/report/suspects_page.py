"""What is suspicious about a folder of normal images: as JSON, and as one HTML page that needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from padim_zoo import __version__
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import needs_extra
from padim_zoo.core.numbers import in_number
from padim_zoo.data.duplicates import find_duplicates
from padim_zoo.data.image import read_image
from padim_zoo.data.odd_files import odd_exposures, odd_sizes
from padim_zoo.data.sample import Sample
from padim_zoo.detectors.nearest_patches import Place, at_same_position, nearest_patches
from padim_zoo.detectors.suspects import SHOWN, Suspects
from padim_zoo.pictures.colormap import Picture
from padim_zoo.pictures.overlays import overlay

_QUALITY = 82

_PATCH = 96
"""Pixels of the side of a patch on the page."""

_CUT = 6
"""An image is so many times as long as what is shown around a patch."""


@dataclass(frozen=True)
class FolderSuspects:
    """What is suspicious about the normal images of a fit.

    Attributes
    ----------
    paths : sequence of Path
        The n images.
    suspects : Suspects
    copies, in_test : list of str
        Pairs of copies among them, and with a test image.
    sizes, exposures : dict of Path to str
        Images that differ in these from the others, and how.
    doubts : list of str
        Copies that may have been missed.
    """

    paths: Sequence[Path]
    suspects: Suspects
    copies: list[str]
    in_test: list[str]
    sizes: dict[Path, str]
    exposures: dict[Path, str]
    doubts: list[str]

    @property
    def clean(self) -> bool:
        """Whether no image is suspected, and no test image stands among them."""
        return not (self.suspects.suspected.any() or self.in_test)

    @property
    def headline(self) -> str:
        """How many images are suspected."""
        count = int(self.suspects.suspected.sum())
        return in_number(count, f"of {len(self.paths)} normal images {{are|is}} suspected")

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """All images, the most suspicious first."""
        found = self.suspects
        return [
            {
                "path": str(self.paths[image]),
                "score": float(found.scores[image]),
                "p_value": float(found.p_values[image]),
                "suspected": bool(found.suspected[image]),
            }
            for image in found.ranking.tolist()
        ]

    @property
    def findings(self) -> dict[str, list[str]]:
        """What else was found, by its title with their number; what was not found is left out."""
        found = {
            "{copies, which hide|copy, which hides} what both show": self.copies,
            "test {images|image} among the normal images": self.in_test,
            "{images|image} of another size": [f"{path} ({size})" for path, size in self.sizes.items()],
            "{images|image} of another exposure": [f"{path} ({told})" for path, told in self.exposures.items()],
        }
        return {in_number(len(items), title): items for title, items in found.items() if items}

    def to_dict(self) -> dict[str, Any]:
        """All but the maps, in JSON's types."""
        return {
            "images": self.ranked,
            "method": self.suspects.method,
            "seconds": self.suspects.seconds,
            "copies": self.copies,
            "in_test": self.in_test,
            "odd_sizes": {str(path): size for path, size in self.sizes.items()},
            "odd_exposures": {str(path): told for path, told in self.exposures.items()},
            "doubts": self.doubts,
        }


def examine(paths: Sequence[Path], suspects: Suspects, test: Sequence[Path | Sample] = ()) -> FolderSuspects:
    """Look at the files of a fit for what scores do not tell: copies, sizes, exposure.

    Parameters
    ----------
    paths : sequence of Path
        The images of the fit, in its order.
    suspects : Suspects
    test : sequence of Path or Sample
        Images that must not be among them.
    """
    kept, n = Caches.usual().fingerprints, len(paths)
    everything = [*paths, *(image.path if isinstance(image, Sample) else image for image in test)]
    copies, in_test = [], []
    duplicates = find_duplicates(everything, kept)
    for pair in duplicates.pairs:
        line = f"{everything[pair.first]} = {everything[pair.second]} ({pair.kind})"
        if pair.second < n:
            copies.append(line)
        elif pair.first < n and pair.kind == "exact":
            in_test.append(line)
    doubts = []
    if duplicates.n_compared < len(everything):
        doubts.append(f"near copies are looked for among {duplicates.n_compared} of {len(everything)} images")
    if duplicates.n_unclear:
        doubts.append(in_number(duplicates.n_unclear, "{images|image} may be near copies, or of parts that look alike"))
    return FolderSuspects(paths, suspects, copies, in_test, odd_sizes(paths), odd_exposures(paths, kept), doubts)


def render_suspects(found: FolderSuspects, detector: Any) -> str:
    """The contact sheet: the most suspicious images with their maps, and all that was found, as HTML.

    Raises
    ------
    InputError
        If the packages of ``padim-zoo[report]`` are not installed.
    """
    with needs_extra("report", "a contact sheet"):
        from jinja2 import Environment, StrictUndefined
    web = Path(__file__).with_name("web")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        (web / "suspects.html.j2").read_text(encoding="utf-8")
    )
    suspects = found.suspects
    places = nearest_patches(detector, suspects.maps)
    shown = suspects.ranking[:SHOWN].tolist()
    sheet: list[dict[str, Any]] = []
    for row, image in zip(found.ranked, shown, strict=False):
        pixels = _pixels(detector, found.paths[image])
        pictures = [pixels]
        if image in suspects.maps:
            anomaly_map = suspects.maps[image][: pixels.shape[0], : pixels.shape[1]]
            pictures.append(overlay(pixels, anomaly_map, suspects.scale))
        patches = [
            {
                "patch": _data_uri(_around(_pixels(detector, found.paths[place.image]), place)),
                "path": str(found.paths[place.image]),
            }
            for place in places.get(image, ())
        ]
        sheet.append({**row, "pictures": [_data_uri(each) for each in pictures], "patches": patches})
    return template.render(
        sheet=sheet,
        same_place=at_same_position(detector),
        rows=found.ranked,
        findings=found.findings,
        doubts=found.doubts,
        method=suspects.method,
        headline=found.headline,
        fitted=detector.describe_fit()["fitted"],
        version=__version__,
    )


def _pixels(detector: Any, path: Path) -> Picture:
    picture: Picture = detector.transform.image(read_image(path, detector.transform.bit_depth))
    return picture


def _around(pixels: Picture, place: Place) -> Picture:
    """A square around a place, moved into the image where it lies at an edge."""
    height, width = pixels.shape[:2]
    side = max(1, min(height, width, max(16, max(height, width) // _CUT)))
    top, left = (
        int(min(max(round(center - side / 2), 0), length - side))
        for center, length in ((place.row, height), (place.column, width))
    )
    cut = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(cut.resize((_PATCH, _PATCH), Image.Resampling.BILINEAR))


def _data_uri(pixels: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
