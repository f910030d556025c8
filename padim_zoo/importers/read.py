"""Which program wrote some files, and the model in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from padim_zoo.core.errors import InputError
from padim_zoo.data.transform import Size
from padim_zoo.importers.anomalib import WrappedDetector, is_anomalib, is_wrapped, read_anomalib, read_wrapped
from padim_zoo.importers.imported_model import ImportedModel
from padim_zoo.importers.statistics_files import read_anodet, read_channels, read_first_implementation
from padim_zoo.importers.stub_pickle import read_pickle, read_torch_file

T = TypeVar("T")

PICKLES = (".pkl", ".pickle")


def FROM_FILE() -> Size:
    """Stands for the size that the program in question uses, where None means no resize or no crop."""
    return None


def read_model(
    paths: Sequence[str | Path],
    *,
    backbone: str | None = None,
    weights: str | None = None,
    layers: Sequence[str] | None = None,
    channels: str | Path | None = None,
    resize: Any = FROM_FILE,
    crop: Any = FROM_FILE,
    trust_pickle: bool = False,
) -> ImportedModel | WrappedDetector:
    """The PaDiM that another program saved.

    Parameters
    ----------
    paths : sequence of path
        A checkpoint (``.ckpt``) or torch export (``.pt``) of anomalib, or a checkpoint of the model ``PadimZoo`` of the
        plugin padim-zoo-anomalib, whichever detector it holds; or anodet's ``mean.pt`` and ``cov_inv.pt``; or
        the first implementation's pickle (``.pkl``).
    backbone, weights, layers, channels
        What files of bare statistics do not say: the name of the network (guessed from the dimensions otherwise), its
        weights (the default ones otherwise), its layers, and a file of channel indices (those that these programs draw
        otherwise). ``weights`` replaces the ones in a file of anomalib.
    resize, crop
        Geometry of the images instead of what the file says, or that program's usual one.
    trust_pickle : bool
        Read a pickle at all. Whatever it names but arrays is left alone and not run.

    Raises
    ------
    InputError
        If the files are no such thing, or need what was not given.
    """
    files = [Path(path) for path in paths]
    indices: Tensor | None = None if channels is None else read_channels(Path(channels))
    asked = {
        "backbone": backbone,
        "layers": None if layers is None else tuple(layers),
        "channels": indices,
        "resize": resize,
        "crop": crop,
    }
    if len(files) == 2:
        model = read_anodet(read_torch_file(files[0]), read_torch_file(files[1]), files, **asked)
    elif len(files) != 1:
        raise InputError(f"{len(files)} files were given: expected one checkpoint, or a mean and an inverse covariance")
    elif files[0].suffix in PICKLES:
        if not trust_pickle:
            raise InputError(
                f"{files[0]} is a pickle, a format that can name programs to run: if you know where it comes from, "
                "give --trust-pickle"
            )
        model = read_first_implementation(read_pickle(files[0]), files[0], **asked)
    else:
        content = read_torch_file(files[0])
        if is_wrapped(content):
            if any(value is not None for value in (backbone, weights, layers, channels)):
                raise InputError(f"{files[0]} holds a whole detector of padim-zoo: leave all other options out")
            return _read(read_wrapped, content, files[0])
        if isinstance(content, Tensor):
            raise InputError(f"{files[0]} holds one tensor: give the other file too, MEAN COV_INV")
        if not is_anomalib(content):
            raise InputError(f"{files[0]} is neither a checkpoint nor a torch export of anomalib: expected either")
        if backbone is not None or layers is not None or channels is not None:
            raise InputError(f"{files[0]} says itself what its backbone, layers and channels are: leave them out")
        model = _read(read_anomalib, content, files[0])
        if resize is not FROM_FILE:
            model.resize = resize
        if crop is not FROM_FILE:
            model.crop = crop
    if weights is not None:
        model.weights = weights
    return model


def _read(reader: Callable[[Any, Path], T], content: Any, path: Path) -> T:
    """What a reader makes of a file; what is absent, or no such thing as it should be, is told in one line."""
    try:
        return reader(content, path)
    except InputError:
        raise
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} has not the content of such a checkpoint ({type(error).__name__}: {error}): save it again, or by "
            "a supported version"
        ) from None
