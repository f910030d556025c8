"""The kinds of pictures of a prediction: apart from what draws them, so that a command line knows them at no cost."""

from __future__ import annotations

from dataclasses import dataclass

PICTURES = ("heatmap", "overlay", "boundary", "highlight", "frame", "panel")

MAPLESS = ("frame",)
"""Those that need no anomaly map."""


@dataclass(frozen=True)
class PictureChoice:
    """The pictures that are asked for.

    Attributes
    ----------
    kinds : tuple of str
        Of :data:`PICTURES`.
    alpha : float
        Opacity of overlays where they are hottest.
    colormap : str
        As :func:`padim_zoo.pictures.colormap.color_table` takes it.
    """

    kinds: tuple[str, ...] = ()
    alpha: float = 0.9
    colormap: str = "ember"
