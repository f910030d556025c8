"""anomalib's models that learn from normal images, as far as padim-zoo has to know them before it imports anomalib."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """What is known of a model.

    Attributes
    ----------
    summary : str
        One line for listings.
    layers : tuple of str or None
        Layers that it takes by default of a convolutional backbone of the zoo; None if it takes no backbone of the zoo.
    layers_argument : str or None
        The argument of its constructor that names layers; None if it decides itself.
    one_pass : bool
        Whether it is fitted by looking at each image once, as PaDiM is, and not trained for as long as one likes.
    """

    summary: str
    layers: tuple[str, ...] | None = None
    layers_argument: str | None = None
    one_pass: bool = False


_FIRST = ("layer1", "layer2", "layer3")
_MIDDLE = ("layer2", "layer3")

CATALOG = {
    "AnomalyDINO": Known("memory of tokens of DINOv2", one_pass=True),
    "CFM": Known("mappings between features of two kinds"),
    "Cfa": Known("features pulled to a memory of normal ones", _FIRST),
    "Cflow": Known("conditional normalizing flows", ("layer2", "layer3", "layer4"), "layers"),
    "Csflow": Known("a flow over several scales, of EfficientNet's features"),
    "Dfkde": Known("kernel density of one feature vector, image level", ("layer4",), "layers", one_pass=True),
    "Dfm": Known("principal components of features", ("layer3",), "layer", one_pass=True),
    "Dinomaly": Known("reconstruction of DINOv2's features"),
    "Draem": Known("reconstruction and segmentation of drawn anomalies"),
    "Dsr": Known("drawn anomalies in a quantized space"),
    "Fastflow": Known("two-dimensional normalizing flows", _FIRST),
    "FoundAD": Known("projections of features of a foundation model"),
    "Fre": Known("reconstruction of features by a small autoencoder", ("layer3",), "layer"),
    "Ganomaly": Known("an adversarial autoencoder, image level"),
    "GeneralAD": Known("attention between patch features"),
    "Glass": Known("anomalies drawn in images and in features", _MIDDLE, "layers"),
    "InpFormer": Known("prototypes of normal tokens of each image"),
    "L2BT": Known("student of a frozen vision transformer, both ways"),
    "MHPatchcore": Known("memory of patches under a Mahalanobis distance", _MIDDLE, "layers", one_pass=True),
    "Padim": Known("one Gaussian per patch position", _FIRST, "layers", one_pass=True),
    "Patchcore": Known("memory of normal patches, thinned to a coreset", _MIDDLE, "layers", one_pass=True),
    "Patchflow": Known("flows over patch features of EfficientNet"),
    "Rad": Known("memories of images and of positions, DINOv3", one_pass=True),
    "ReverseDistillation": Known("a student that decodes the teacher's features", _FIRST, "layers"),
    "Stfpm": Known("a student of the backbone's features", _FIRST, "layers"),
    "SuperADD": Known("memory of patches of enlarged images, DINOv3", one_pass=True),
    "Supersimplenet": Known("anomalies drawn in feature space", _MIDDLE, "layers"),
    "Uflow": Known("a U-shaped flow of transformer features"),
    "UniNet": Known("contrastive student and teacher"),
}
"""By anomalib's name of the class."""

LEFT_OUT = {
    "EfficientAd": "it chooses the scale of its maps by validation images, and trains on ImageNette besides",
    "AnomalyVFM": "it is not fitted to normal images",
    "VlmAd": "it is not fitted to normal images",
    "WinClip": "it is not fitted to normal images",
}
"""Models that cannot be compared on these terms, and why."""
