"""Fitted detectors as modules of plain tensor operations: uint8 images in; scores, maps and decisions out."""

from __future__ import annotations

from torch import Tensor, nn

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import PRECISIONS
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.backbone_detector import BackboneDetector
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.padim_network import GaussianDistances
from padim_zoo.detectors.scoring_network import BackboneNetwork, ScoredByMap
from padim_zoo.export.distances import DistancesFromMean
from padim_zoo.export.pixels import Pixels


class ExportableNetwork(nn.Module):
    """A detector whole, of operations that exporters and runtimes know.

    Parameters
    ----------
    pixels : Pixels
        uint8 images (N, H, W, 3) to float images in [0, 1].
    backbone : Module
        These to maps of its layers.
    scoring : Module
        Maps and images to scores and anomaly maps: :meth:`Detector.scoring_network`.
    threshold : float, optional
        Scores above it are anomalous.
    """

    def __init__(self, pixels: Pixels, backbone: BackboneNetwork, scoring: nn.Module, threshold: float | None) -> None:
        super().__init__()
        self.pixels = pixels
        self.backbone = backbone
        self.scoring = scoring
        self.threshold = threshold

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``scores`` (N,), ``maps`` (N, H, W) where there are any, ``anomalous`` (N,) where there is a threshold."""
        pixels = self.pixels(images)
        scores, maps = self.scoring(self.backbone(pixels), pixels)
        outputs = {"scores": scores}
        if maps is not None:
            outputs["maps"] = maps
        if self.threshold is not None:
            outputs["anomalous"] = scores > self.threshold
        return outputs


def exportable(
    detector: Detector, *, precision: str | None = None, size: tuple[int, int] | None = None
) -> ExportableNetwork:
    """A fitted detector as one network.

    Parameters
    ----------
    detector : Detector
    precision : str, optional
        Of the backbone; the detector's own by default.
    size : tuple of int, optional
        Height and width of the images, which are then resized and cropped by the network; by default it takes images
        after the transform.

    Raises
    ------
    InputError
        If the detector is of a kind that cannot be exported, or is not fitted.
    """
    scoring = detector.scoring_network()
    if not isinstance(detector, BackboneDetector):
        raise InputError(f"a {type(detector).__name__} cannot be exported: expected a detector on a backbone")
    for option in ("tta", "roi", "tiles"):
        if getattr(detector, option) is not None:
            raise InputError(f"a detector with {option} cannot be exported: networks score one whole view of an image")
    if detector.values_of_maps is not None:
        raise InputError(
            "a detector with maps of p-values cannot be exported: a network compares with no normal images; fit "
            "without --map-values"
        )
    backbone = detector.build_backbone()
    computes_in = precision or backbone.precision
    if computes_in not in PRECISIONS:
        raise InputError(f"unknown precision {computes_in!r}: expected {', '.join(PRECISIONS)}")
    network = BackboneNetwork(in_float32(backbone) if computes_in == "float32" else backbone, computes_in)
    pixels = Pixels(detector.transform, size)
    if detector.map_score is not None:
        scoring = ScoredByMap(scoring, detector.map_score)
    whole = ExportableNetwork(pixels, network, for_runtimes(scoring), detector.threshold_)
    return whole.eval().requires_grad_(False)


def for_runtimes(scoring: nn.Module) -> nn.Module:
    """A scoring network whose Gaussians are in a form of float32 and of few numbers, in place."""
    for module in list(scoring.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, GaussianDistances):
                setattr(module, name, DistancesFromMean(part.gaussian))
    return scoring


def in_float32(backbone: Backbone) -> Backbone:
    """A backbone that computes in float32, of the same weights."""
    if backbone.precision == "float32":
        return backbone
    same: Backbone = registry.backbones.create(backbone.name, layers=backbone.layers, weights=backbone.state_in_use())
    return same
