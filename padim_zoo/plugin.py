"""All that the author of a plugin imports: base classes, registries, and the checks of the contracts.

>>> from padim_zoo.plugin import Backbone, backbones, check_backbone

Names are imported at first use, so that ``import padim_zoo.plugin`` costs nothing. :mod:`padim_zoo` has the rest of the
public interface.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from padim_zoo.backbones.backbone import Backbone as Backbone
    from padim_zoo.backbones.backbone import default_n_components as default_n_components
    from padim_zoo.backbones.device import resolve_device as resolve_device
    from padim_zoo.backbones.stages import default_layers as default_layers
    from padim_zoo.backbones.timm import pretrained_state as pretrained_state
    from padim_zoo.backbones.weights import Weights as Weights
    from padim_zoo.backbones.weights import find_state as find_state
    from padim_zoo.backbones.weights import install as install
    from padim_zoo.backbones.weights import read_weights as read_weights
    from padim_zoo.core.errors import InputError as InputError
    from padim_zoo.data.files import folders_in as folders_in
    from padim_zoo.data.files import images_in as images_in
    from padim_zoo.data.layout import ListedDataset as ListedDataset
    from padim_zoo.data.layout import dataset_root as dataset_root
    from padim_zoo.data.layout import wrong_layout as wrong_layout
    from padim_zoo.data.loading import batches as batches
    from padim_zoo.data.sample import Category as Category
    from padim_zoo.data.sample import Dataset as Dataset
    from padim_zoo.data.sample import Sample as Sample
    from padim_zoo.data.transform import Transform as Transform
    from padim_zoo.detectors.backbone_detector import BackboneDetector as BackboneDetector
    from padim_zoo.detectors.calibration import Calibration as Calibration
    from padim_zoo.detectors.config import CALIBRATION_FOLDS as CALIBRATION_FOLDS
    from padim_zoo.detectors.config import LARGEST_SEED as LARGEST_SEED
    from padim_zoo.detectors.config import BackboneConfig as BackboneConfig
    from padim_zoo.detectors.config import MapConfig as MapConfig
    from padim_zoo.detectors.config import check_share as check_share
    from padim_zoo.detectors.config import check_whole_number as check_whole_number
    from padim_zoo.detectors.detector import Detector as Detector
    from padim_zoo.detectors.equal_images import groups_with_copies as groups_with_copies
    from padim_zoo.detectors.held_out import HeldOutScores as HeldOutScores
    from padim_zoo.detectors.held_out import folds_of as folds_of
    from padim_zoo.detectors.model_file import add_calibration as add_calibration
    from padim_zoo.detectors.model_file import calibration_in as calibration_in
    from padim_zoo.detectors.model_file import embeddings_of as embeddings_of
    from padim_zoo.detectors.model_file import numbered as numbered
    from padim_zoo.detectors.model_file import unfitted as unfitted
    from padim_zoo.detectors.prediction import Prediction as Prediction
    from padim_zoo.detectors.scoring_network import AnomalyMaps as AnomalyMaps
    from padim_zoo.detectors.storage import DetectorFile as DetectorFile
    from padim_zoo.detectors.storage import DetectorInMemory as DetectorInMemory
    from padim_zoo.detectors.storage import write_detector as write_detector
    from padim_zoo.estimators.estimator import EPSILON as EPSILON
    from padim_zoo.estimators.estimator import Estimator as Estimator
    from padim_zoo.estimators.linear_shrinkage import LinearShrinkage as LinearShrinkage
    from padim_zoo.features.anomaly_map import anomaly_maps as anomaly_maps
    from padim_zoo.features.features import Features as Features
    from padim_zoo.features.patch_embeddings import PatchEmbeddings as PatchEmbeddings
    from padim_zoo.gaussians.gaussian import Gaussian as Gaussian
    from padim_zoo.registry import backbones as backbones
    from padim_zoo.registry import datasets as datasets
    from padim_zoo.registry import detectors as detectors
    from padim_zoo.registry import estimators as estimators
    from padim_zoo.statistics.moments import Moments as Moments
    from padim_zoo.statistics.samples import Samples as Samples
    from padim_zoo.statistics.samples import Statistics as Statistics
    from padim_zoo.testing import ContractError as ContractError
    from padim_zoo.testing import check_backbone as check_backbone
    from padim_zoo.testing import check_dataset as check_dataset
    from padim_zoo.testing import check_detector as check_detector
    from padim_zoo.testing import check_estimator as check_estimator

_NAMES = {
    "padim_zoo.registry": ("backbones", "datasets", "detectors", "estimators"),
    "padim_zoo.core.errors": ("InputError",),
    "padim_zoo.backbones.backbone": ("Backbone", "default_n_components"),
    "padim_zoo.backbones.device": ("resolve_device",),
    "padim_zoo.backbones.stages": ("default_layers",),
    "padim_zoo.backbones.timm": ("pretrained_state",),
    "padim_zoo.backbones.weights": ("Weights", "find_state", "install", "read_weights"),
    "padim_zoo.estimators.estimator": ("EPSILON", "Estimator"),
    "padim_zoo.estimators.linear_shrinkage": ("LinearShrinkage",),
    "padim_zoo.gaussians.gaussian": ("Gaussian",),
    "padim_zoo.statistics.moments": ("Moments",),
    "padim_zoo.statistics.samples": ("Samples", "Statistics"),
    "padim_zoo.detectors.backbone_detector": ("BackboneDetector",),
    "padim_zoo.detectors.config": (
        *("CALIBRATION_FOLDS", "LARGEST_SEED", "BackboneConfig", "MapConfig", "check_share", "check_whole_number"),
    ),
    "padim_zoo.detectors.detector": ("Detector",),
    "padim_zoo.detectors.equal_images": ("groups_with_copies",),
    "padim_zoo.detectors.prediction": ("Prediction",),
    "padim_zoo.detectors.scoring_network": ("AnomalyMaps",),
    "padim_zoo.features.anomaly_map": ("anomaly_maps",),
    "padim_zoo.features.features": ("Features",),
    "padim_zoo.features.patch_embeddings": ("PatchEmbeddings",),
    "padim_zoo.detectors.calibration": ("Calibration",),
    "padim_zoo.detectors.held_out": ("HeldOutScores", "folds_of"),
    "padim_zoo.detectors.model_file": ("add_calibration", "calibration_in", "embeddings_of", "numbered", "unfitted"),
    "padim_zoo.detectors.storage": ("DetectorFile", "DetectorInMemory", "write_detector"),
    "padim_zoo.data.files": ("folders_in", "images_in"),
    "padim_zoo.data.layout": ("ListedDataset", "dataset_root", "wrong_layout"),
    "padim_zoo.data.loading": ("batches",),
    "padim_zoo.data.sample": ("Category", "Dataset", "Sample"),
    "padim_zoo.data.transform": ("Transform",),
    "padim_zoo.testing": ("ContractError", "check_backbone", "check_dataset", "check_detector", "check_estimator"),
}
"""The modules of the public names."""

_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
