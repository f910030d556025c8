"""padim-zoo's detectors as one model of anomalib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anomalib.models
import torch
from anomalib import LearningType
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule, MemoryBankMixin
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn

from padim_zoo.plugin import BackboneDetector, DetectorInMemory, InputError, detectors, write_detector
from padim_zoo_anomalib.pre_processor import ZooPreProcessor
from padim_zoo_anomalib.zoo_model import ZooModel


class PadimZoo(MemoryBankMixin, AnomalibModule):
    """A detector of padim-zoo.

    One epoch collects the normal images; the detector is fitted at its end. Scores and maps are those of the detector
    by itself; anomalib's post-processor then normalizes them, as it does every model's, unless it is switched off.

    Args:
        detector (str): Name in padim-zoo's registry, with arguments if wanted: ``"patchcore(n_neighbors=5)"``.
        backbone (str): ``padim-zoo list backbones``.
        weights (str): ``"default"``, ``"none"`` or the path of a weights file.
        layers (list[str] | None): Layers of the backbone; the detector's choice by default.
        estimator (str | None): ``padim-zoo list estimators``, of detectors that take one.
        n_components (int | None): Dimensions of an embedding, of detectors that reduce them.
        resize (int | tuple[int, int] | None): Shorter side, or height and width; None for none.
        crop (int | tuple[int, int] | None): Side of the center crop, or height and width; None for none.
        seed (int): Of all that is drawn.
        options (dict | None): Further arguments of the detector.
        pre_processor (nn.Module | bool): Resize and crop by default. One of your own must not normalize.
        post_processor (nn.Module | bool): anomalib's by default.
        evaluator (Evaluator | bool): anomalib's by default.
        visualizer (Visualizer | bool): anomalib's by default.
    """

    def __init__(
        self,
        detector: str = "padim",
        backbone: str = "builtin",
        weights: str = "default",
        layers: list[str] | None = None,
        estimator: str | None = None,
        n_components: int | None = None,
        resize: int | tuple[int, int] | None = (256, 256),
        crop: int | tuple[int, int] | None = None,
        seed: int = 0,
        options: dict[str, Any] | None = None,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=ZooPreProcessor(resize, crop) if pre_processor is True else pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        parameters = {"backbone": backbone, "weights": weights, "layers": layers, "seed": seed}
        asked = {"estimator": estimator, "n_components": n_components}
        parameters |= {name: value for name, value in asked.items() if value is not None}
        self.model: ZooModel = ZooModel(detector, {**parameters, **(options or {})})

    # -- anomalib's hooks --------------------------------------------------------------------------------------------

    @staticmethod
    def configure_optimizers() -> None:
        """Nothing is optimized."""
        return

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> ZooPreProcessor:
        """Resize to a height and width without a crop; 256 × 256 by default, as anomalib's own models."""
        return ZooPreProcessor() if image_size is None else ZooPreProcessor((image_size[0], image_size[1]), None)

    @staticmethod
    def configure_post_processor() -> PostProcessor:
        """anomalib's."""
        return PostProcessor()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Keep the images of a batch."""
        self.model.collect(batch.image, batch.image_path or [])
        return torch.tensor(0.0, requires_grad=True, device=self.device)

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Score the images of a batch, for anomalib's threshold and normalization."""
        return batch.update(**self.model(batch.image)._asdict())

    def fit(self) -> None:
        """Fit the detector on the images that were kept."""
        self.model.fit()

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """One epoch on one device."""
        return {"max_epochs": 1, "num_sanity_val_steps": 0, "devices": 1}

    @property
    def learning_type(self) -> LearningType:
        """From normal images only."""
        return LearningType.ONE_CLASS

    # -- padim-zoo's side --------------------------------------------------------------------------------------------

    def to_state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Header and arrays of the fitted detector, with the transform of the pre-processor.

        Raises
        ------
        InputError
            If the pre-processor is not this model's, so that a file could not describe it.
        """
        if not isinstance(self.pre_processor, ZooPreProcessor):
            raise InputError(
                f"the pre-processor is a {type(self.pre_processor).__name__}: a detector by itself needs to know "
                "resize and crop; leave the pre-processor as it is and give resize and crop"
            )
        header, arrays = self.model.to_state()
        header["parameters"] |= {"resize": self.pre_processor.resize, "crop": self.pre_processor.crop}
        return header, arrays

    def detector(self) -> BackboneDetector[Any]:
        """The fitted detector by itself, which scores image files."""
        header, arrays = self.to_state()
        factory: Any = detectors.entry(header["detector"]).factory
        made: BackboneDetector[Any] = factory.from_file(DetectorInMemory(Path("the model"), header, tensors=arrays))
        return made

    def save(self, path: str | Path) -> None:
        """Write the fitted detector as a model file of padim-zoo."""
        write_detector(path, *self.to_state())


# anomalib looks names without a module up here: `class_path: PadimZoo` in a benchmark, say.
anomalib.models.PadimZoo = PadimZoo
