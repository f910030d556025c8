"""The zoo's weights for the networks that anomalib builds by timm, in place of a download."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn

from padim_zoo.plugin import InputError

# timm.create_model is one for all threads.
_LOCK = threading.RLock()


def architecture_of(backbone: str) -> str:
    """Timm's name of a backbone of the zoo.

    Raises
    ------
    InputError
        If timm has no such network.
    """
    import timm

    name = backbone.removeprefix("timm/").removeprefix("torchvision/")
    if not timm.is_model(name):
        raise InputError(
            f"anomalib builds its networks by timm, which has no {name!r}: choose another backbone, e.g. "
            "--backbones resnet18"
        )
    return name


@contextmanager
def handed_over(architecture: str, state: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Networks that are built inside with pretrained weights get those of ``state``; nothing is downloaded.

    Parameters
    ----------
    architecture : str
        Whose weights ``state`` are. Asking for the weights of another network is an error.
    state : mapping of str to Tensor or None
        By the names of a weights file; None leaves every network as it is initialized, for its state is loaded later.
    """
    import timm

    original = timm.create_model

    def create_model(model_name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        network: nn.Module = original(model_name, pretrained=False, **options)
        if not pretrained or state is None:
            return network
        if model_name.partition(".")[0] != architecture.partition(".")[0]:
            raise InputError(f"the model wants weights of {model_name} too: only those of {architecture} are given")
        load_by_name(network, state, architecture)
        return network

    with _LOCK, patch.object(timm, "create_model", create_model):
        yield


def load_by_name(network: nn.Module, state: Mapping[str, Tensor], architecture: str) -> None:
    """Load tensors into a network that timm has cut, which may have put ``_`` for ``.`` in its names.

    Raises
    ------
    InputError
        If a tensor is missing or of another shape.
    """
    tensors = {key.replace(".", "_"): tensor for key, tensor in state.items()}
    own = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = [key for key, value in own.items() if _shape(tensors.get(key.replace(".", "_"))) != value.shape]
    if missing:
        raise InputError(
            f"the weights of {architecture} lack {len(missing)} of {len(own)} tensors that the model needs, e.g. "
            f"{', '.join(missing[:3])}: give a file of the whole network by --weights, or fewer layers"
        )
    network.load_state_dict({key: tensors[key.replace(".", "_")] for key in own}, strict=False)


def _shape(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.shape
