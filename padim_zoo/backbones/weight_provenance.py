"""Which images a weights file was adapted to: a threshold on the same images is not one of images that are new to it.

``padim-zoo finetune`` lists them, by the hashes of their files, in the header of the weights that it writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import read_json
from padim_zoo.data.content import content_hash
from padim_zoo.data.files import paths_of
from padim_zoo.data.sample import Sample

HEADER = "padim_zoo_finetune"
"""The entry of a weights file's header that says how it was made, a JSON document."""

ADAPTED_TO = "adapted_to"
"""In that document: the hashes of the image files."""

_DIGITS = 16


def hashes_of(paths: Iterable[Path]) -> list[str]:
    """What images are known by: their files' bytes, so that a copy is the same image, whatever its name.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    return [content_hash(path)[:_DIGITS] for path in paths]


def images_adapted_to(weights: str | Path) -> frozenset[str]:
    """The hashes of the images that a weights file was adapted to; none of what is no such file."""
    path = Path(weights)
    if path.suffix != ".safetensors" or not path.is_file():
        return frozenset()
    try:
        with safe_open(path, framework="pt") as file:
            document = read_json((file.metadata() or {}).get(HEADER, "{}"))
        return frozenset(map(str, document.get(ADAPTED_TO, ())))
    except (SafetensorError, OSError, ValueError, AttributeError, TypeError):
        return frozenset()  # what reads the tensors says what is wrong


def count_adapted(adapted_to: Collection[str], images: Any) -> int:
    """How many of some images are among those that weights were adapted to.

    Parameters
    ----------
    adapted_to : collection of str
        Hashes.
    images
        A file, folder or glob pattern, or a sequence of these or of samples; of images that are no files, nothing can
        be told.
    """
    if not adapted_to:
        return 0
    if isinstance(images, (str, Path, Sample)):
        images = [images]
    if not isinstance(images, Sequence):
        return 0
    sources = [image.path if isinstance(image, Sample) else image for image in images]
    try:
        paths = paths_of([source for source in sources if isinstance(source, (str, Path))])
        return sum(image_hash in adapted_to for image_hash in hashes_of(paths))
    except (InputError, OSError):  # what reads the images says what is wrong
        return 0


def not_out_of_sample(adapted: int, images: int) -> str:
    """What is to be said of a threshold that rests on images which the weights have seen."""
    which = f"all {images}" if adapted >= images else f"{adapted} of the {images}"
    return (
        f"the weights were adapted to {which} normal images of this fit: the threshold's false-alarm rate is not "
        "strictly out of sample; adapt to some normal images and fit on others"
    )
