"""A detector of padim-zoo as a torch module whose state is tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from padim_zoo.plugin import BackboneDetector, DetectorInMemory, InputError, detectors
from padim_zoo_anomalib.pre_processor import whole_numbers

HEADER = "header"
ARRAYS = "arrays."


class ZooModel(nn.Module):
    """Collects normal images in training, fits a detector on them, and scores images by it.

    Its state is what a model file of padim-zoo holds: the arrays of the fitted detector, those of the backbone among
    them, by name, and the JSON document of the header as bytes. Nothing in it needs to be unpickled.

    Parameters
    ----------
    name : str
        The detector in padim-zoo's registry, with arguments if wanted.
    options : mapping
        Its other arguments; images come transformed, so that it transforms nothing.
    """

    _where: Tensor

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        made = detectors.create(name, **options, resize=None, crop=None)
        if not isinstance(made, BackboneDetector):
            raise InputError(
                f"{name} is no detector on the features of a backbone: expected one, e.g. padim or patchcore"
            )
        made.check_parameters()
        self.detector: BackboneDetector[Any] = made
        self.images: list[Tensor] = []
        self.paths: list[str] = []
        self.is_fitted = False
        self.register_buffer("_where", torch.empty(0), persistent=False)

    def forward(self, images: Tensor) -> Tensor | InferenceBatch:
        """Keep images (N, 3, H, W) in [0, 1] in training; otherwise score them."""
        whole = whole_numbers(images)
        if self.training:
            self.images.append(whole.cpu())
            return whole
        self._place()
        prediction = self.detector.predict(whole)
        maps = None if prediction.maps is None else torch.from_numpy(prediction.maps).unsqueeze(1).to(images.device)
        return InferenceBatch(pred_score=torch.from_numpy(prediction.scores).to(images.device), anomaly_map=maps)

    def collect(self, images: Tensor, paths: Sequence[str]) -> None:
        """Keep images (N, 3, H, W) in [0, 1] for the fit, and the files that they come from."""
        self(images)
        self.paths += paths

    def fit(self) -> None:
        """Fit the detector on the images that were kept, and let go of them.

        Data loaders shuffle, but some detectors draw by the place of an image: so they go in the order of their paths,
        as they do by themselves.
        """
        if not self.images:
            raise InputError("there are no normal images to fit on: train the model for one epoch first")
        self._place()
        images = torch.cat(self.images)
        if len(self.paths) == len(images):
            images = images[sorted(range(len(images)), key=self.paths.__getitem__)]
        self.detector.fit(images)
        self.detector.model_  # noqa: B018  the fit ends here, not at the first image that is scored
        self.images, self.paths = [], []
        self.is_fitted = True

    def _place(self) -> None:
        """Let the backbone compute where Lightning has put this module."""
        self.detector.device = str(self._where.device)
        self.detector.build_backbone().to(self._where.device)

    # -- state -------------------------------------------------------------------------------------------------------

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Header and arrays of the fitted detector."""
        header, arrays = self.detector.to_state(dtype="float32")
        plain: dict[str, Any] = json.loads(json.dumps(header, default=lambda number: number.item()))
        return plain, {name: array.detach().cpu() for name, array in arrays.items()}

    def take(self, header: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> None:
        """Become the detector that :meth:`to_state` gave these."""
        factory: Any = detectors.entry(header["detector"]).factory
        file = DetectorInMemory(Path("the checkpoint"), dict(header), tensors=dict(arrays))
        self.detector = factory.from_file(file, device="cpu", batch_size=self.detector.batch_size)
        self.is_fitted = True

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.is_fitted:
            header, arrays = self.to_state()
            destination[prefix + HEADER] = torch.tensor(list(json.dumps(header).encode()), dtype=torch.uint8)
            destination.update({prefix + ARRAYS + name: array for name, array in arrays.items()})

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Tensor],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if prefix + HEADER in state_dict:
            header = json.loads(bytes(state_dict[prefix + HEADER].cpu().tolist()))
            start = prefix + ARRAYS
            self.take(header, {k.removeprefix(start): v for k, v in state_dict.items() if k.startswith(start)})
        elif strict:
            missing_keys.append(prefix + HEADER)

    def __getstate__(self) -> dict[str, Any]:
        """What a torch export pickles: tensors and plain data in place of the detector."""
        state = self.__dict__.copy()
        del state["detector"]
        parameters = {key: value for key, value in self.detector.get_params().items() if key != "device"}
        state["unfitted"] = (self.detector.name, parameters)
        state["fitted"] = self.to_state() if self.is_fitted else None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        name, parameters = state.pop("unfitted")
        fitted = state.pop("fitted")
        self.__dict__.update(state)
        made: Any = detectors.create(name, **parameters)
        self.detector = made
        if fitted is not None:
            self.take(*fitted)
