"""Models of anomalib that look at an image through a convolutional backbone, on the zoo's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from padim_zoo.plugin import Backbone, InputError, backbones, default_layers
from padim_zoo_anomalib import training
from padim_zoo_anomalib.model_detector import AnomalibDetector, Size
from padim_zoo_anomalib.weights import architecture_of, handed_over


class AnomalibBackboneDetector(AnomalibDetector):
    """A model of anomalib on a convolutional backbone, with the zoo's weights.

    Parameters
    ----------
    backbone : str or Backbone
        One that timm knows by name too.
    weights : str
        ``"default"``, ``"none"`` or the path of a weights file.
    layers : sequence of str, optional
        Of models that can be told; the model's own choice by default.
    max_epochs, options, seed, resize, crop, batch_size, device
        As of :class:`AnomalibDetector`.
    """

    def __init__(
        self,
        backbone: str | Backbone = "resnet18",
        *,
        weights: str = "default",
        layers: tuple[str, ...] | list[str] | None = None,
        max_epochs: int | None = None,
        options: dict[str, Any] | None = None,
        seed: int = 0,
        resize: Size = (256, 256),
        crop: Size = None,
        batch_size: int = 32,
        device: str = "auto",
    ) -> None:
        super().__init__(
            max_epochs=max_epochs,
            options=options,
            seed=seed,
            resize=resize,
            crop=crop,
            batch_size=batch_size,
            device=device,
        )
        self.backbone = backbone
        self.weights = weights
        self.layers = layers

    @classmethod
    def layers_wanted(cls, backbone: str) -> tuple[str, ...] | None:
        """The model's own choice of a resnet; of another network, its default ones."""
        usual = default_layers(backbone)
        return cls.known.layers if usual and set(usual) == {"layer1", "layer2", "layer3"} else None

    @property
    def backbone_name(self) -> str:
        """The name in the zoo."""
        return self.backbone if isinstance(self.backbone, str) else self.backbone.name

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of."""
        super().check_parameters()
        architecture_of(self.backbone_name)

    def chosen_layers(self) -> tuple[str, ...]:
        """The layers that the model is told, or uses."""
        if not isinstance(self.backbone, str):
            return tuple(self.backbone.layers)
        if self.layers is not None:
            return tuple(self.layers)
        return self.layers_wanted(self.backbone) or default_layers(self.backbone) or ()

    def pretrained(self) -> Mapping[str, Tensor]:
        """The backbone's weights under the names of a weights file."""
        if not isinstance(self.backbone, str):
            return self.backbone.state_in_use()
        made = backbones.create(self.backbone, layers=self.chosen_layers() or None, weights=self.weights)
        return made.state_in_use()

    def arguments(self) -> dict[str, Any]:
        """Backbone and layers, and the options."""
        arguments: dict[str, Any] = {"backbone": architecture_of(self.backbone_name)}
        layers = list(self.chosen_layers())
        if self.known.layers_argument == "layers":
            arguments["layers"] = layers
        elif self.known.layers_argument == "layer":
            if len(layers) != 1:
                raise InputError(f"{self.name} takes one layer, found {', '.join(layers)}: name one, --layers layer3")
            arguments["layer"] = layers[0]
        return {**arguments, **(self.options or {})}

    def build(self, size: tuple[int, int], network: Mapping[str, Tensor] | None) -> Any:
        """anomalib's model, unfitted, on the zoo's weights; ``network`` None leaves its networks as they start."""
        arguments = self.arguments()
        with handed_over(arguments["backbone"], network):
            return training.build(self._class(), size, arguments)

    def parameters_for_file(self) -> dict[str, Any]:
        """The constructor's arguments as a file keeps them, names for objects."""
        source = self.weights if isinstance(self.backbone, str) else self.backbone.weights_source
        return {
            **super().parameters_for_file(),
            "backbone": self.backbone_name,
            "weights": Path(source).name,
            "layers": list(self.chosen_layers()),
        }


class AnomalibPadim(AnomalibBackboneDetector):
    """anomalib's Padim, which is told how many dimensions to draw.

    Parameters
    ----------
    n_components : int, optional
        Channels drawn from all layers together; anomalib knows resnet18's and wide_resnet50_2's by itself.
    backbone, weights, layers, options, seed, resize, crop, batch_size, device
        As of :class:`AnomalibBackboneDetector`.
    """

    def __init__(
        self,
        backbone: str | Backbone = "resnet18",
        *,
        n_components: int | None = None,
        weights: str = "default",
        layers: tuple[str, ...] | list[str] | None = None,
        options: dict[str, Any] | None = None,
        seed: int = 0,
        resize: Size = (256, 256),
        crop: Size = None,
        batch_size: int = 32,
        device: str = "auto",
    ) -> None:
        super().__init__(
            backbone,
            weights=weights,
            layers=layers,
            options=options,
            seed=seed,
            resize=resize,
            crop=crop,
            batch_size=batch_size,
            device=device,
        )
        self.n_components = n_components

    def arguments(self) -> dict[str, Any]:
        """With the number of dimensions."""
        return {"n_features": self.n_components, **super().arguments()}
