"""The parameters of all detectors: what they mean, and their defaults.

A default is written here and nowhere else. This module imports no torch, so that the command line can read it:
``PaDiMConfig.sigma`` is 4.0. The dataclasses hold fields alone; a detector inherits its constructor from one of them.
In scikit-learn's manner, parameters are looked at when they are first used.

Each check at the end refuses a wrong value in one line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from padim_zoo.core.errors import InputError

if TYPE_CHECKING:
    from padim_zoo.backbones.backbone import Backbone
    from padim_zoo.cache.caches import Caches
    from padim_zoo.data.transform import Size
    from padim_zoo.detectors.detector import Detector
    from padim_zoo.estimators.estimator import Estimator


class FrozenConfig:
    """The parameters of a detector at one moment, to be read as attributes."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        vars(self).update(parameters)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} cannot be set in a config: use set_params of the detector")

    def __repr__(self) -> str:
        return f"FrozenConfig({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


@dataclass(kw_only=True, eq=False, repr=False)
class BackboneConfig:
    """The parameters that every detector on a frozen backbone has.

    Parameters
    ----------
    backbone : str or Backbone
        A registered name (``padim-zoo list backbones``) or a :class:`~padim_zoo.backbones.backbone.Backbone`, which
        wraps any network.
    weights : str
        ``"default"``, ``"none"`` (random, seeded) or the path of a weights file. Ignored when ``backbone`` is no name.
    layers : sequence of str, optional
        Layers of the backbone; by default those that the detector wants, usually the first three stages.
    seed : int
        Seed of all that is drawn, and of the cut into folds; 0 to 2³² - 1.
    resize : int, (int, int) or None
        Length of the shorter side in pixels, or exact height and width, before the crop. A length without a crop
        leaves the other side to the images of the fit: their median aspect gives it, and both sides are rounded to a
        multiple of the coarsest stride of the layers. Of image files all count; of arrays, iterators and data loaders
        the first image. All images are resized to this grid, whatever their own aspect, and so are those of a later
        ``partial_fit`` or ``predict``.
    crop : int, (int, int) or None
        Size of the center crop in pixels, or None for no crop, so that all of each image is looked at.
    bit_depth : str or int
        Bits that samples of more than 8 bits use: 8, 10, 12, 14 or 16. ``"auto"`` looks at the normal images of the
        fit alone, see :mod:`padim_zoo.data.training_depth`; the fitted detector keeps what they say.
    batch_size : int
        Images that pass through the backbone at once; changes speed and memory only.
    memory : int, optional
        Bytes that a fit may take beside the backbone; half of what is free by default. Larger arrays go to mapped
        files in the cache folder, which vanish with the process. Fewer than ``batch_size`` images pass through the
        backbone at once when their activations would take more than half of it. So they do where images are scored,
        which bounds the bands of ``stream`` too.
    stream : str or int
        Large images pass through the backbone in bands or blocks, whose features are those of the whole image.
        ``"auto"`` takes the fewest that ``memory`` allows, a number so many bands, and 1 the whole image: see
        :mod:`padim_zoo.features.streaming`. It changes speed and memory only.
    tiles : str, optional
        Large images in tiles, each of which is an image of its own: ``"2x2"`` for rows and columns, ``"2x2+64"`` for
        those that overlap by 64 pixels, ``"512+64"`` for tiles of 512 pixels that overlap by at least 64. All tiles
        have one size. A detector without positions has one model of all tiles, ``padim`` a grid of Gaussians for each
        place of a tile. Maps of tiles are blended where they overlap.
    cache : bool or Caches
        Whether features and resized images of image files are kept on disk for the next fit or prediction, in the
        cache folder (``padim-zoo cache info``). Scores are the same. Where masks of pixels go with the features
        (``roi``, or ``tta`` by rotations or translations), images alone are kept.
    device : str
        ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` …, for the backbone.
    precision : str
        Type that the backbone computes in: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for bfloat16 where the device
        has it in hardware and the network can compute in it, else float32; see
        :func:`~padim_zoo.backbones.device.resolve_precision`. A model file says which it was. A detector fitted in
        float32 stays so everywhere. One that ``"auto"`` fitted in bfloat16 computes in float32, with a warning, where
        bfloat16 is slow.
    runtime : str, optional
        What runs the network of the backbone on a processor: ``"torch"``, ``"onnx"`` or ``"openvino"``; ``"auto"``
        measures which is the fastest here, where the images at hand repay that and are not large. By default what the
        environment variable ``PADIM_ZOO_RUNTIME`` says, else ``"auto"`` in float32 and torch in 16 bits. In float32
        scores are the same to six digits. A model fitted by one runtime scores by any other; a model file says which
        it was. The converted network is kept in the cache folder. What a runtime cannot take stays in torch, with a
        warning.
    augment : str, optional
        Operations of :data:`~padim_zoo.data.augmentation.OPERATIONS`, e.g. ``"flip,rotate(10),brightness(0.1)"``: the
        fit sees every normal image ``passes`` times, once as it is and otherwise with a random amount of each. The
        draw depends on the seed and the image's pixels. All views of an image are in one fold.
    passes : int, optional
        Of a fit with ``augment``; 4 by default.
    tta : str, optional
        Test-time augmentation: an image is scored as it is, mirrored (``"flip"``), turned one way and the other
        (``"rotate(5)"``) and so on, one view for every direction of every operation. Maps are brought back to the
        pixels of the image, and their mean is taken over the views that show a pixel. Where the score of an image is
        not the maximum of its map, it is the mean of the scores of the views.
    roi : path, ndarray (H, W) or RegionOfInterest, optional
        The pixels that count, as :class:`~padim_zoo.data.roi.RegionOfInterest` takes them: a mask for all images, or a
        folder with one for each. Patches of which no pixel counts take part in nothing. A model file holds the mask
        for all images; a folder has to be named again at each prediction.
    """

    backbone: str | Backbone = field(default="builtin", kw_only=False)
    weights: str = "default"
    layers: Sequence[str] | None = None
    seed: int = 0
    resize: Size = 256
    crop: Size = None
    bit_depth: str | int = "auto"
    batch_size: int = 32
    memory: int | None = None
    stream: str | int = "auto"
    tiles: str | None = None
    cache: bool | Caches = False
    device: str = "auto"
    precision: str = "auto"
    runtime: str | None = None
    augment: str | None = None
    passes: int | None = None
    tta: str | None = None
    roi: Any = None


@dataclass(kw_only=True, eq=False, repr=False)
class ScoreConfig(BackboneConfig):
    """The parameters of a detector that makes anomaly maps: those of :class:`BackboneConfig` and one more.

    Parameters
    ----------
    score : str, optional
        How an image is scored by its map: ``"max"``, or ``"mean(0.01)"`` for the mean of that share of its pixels, the
        highest ones; see :class:`~padim_zoo.detectors.map_score.MapScore`. By default as the detector's paper says.
    map_values : str, optional
        ``"p-value"``: pixels are -log10 of p-values among normal images at their place, by
        :mod:`padim_zoo.metrics.map_p_values`, and so are scores that are made of the map. :meth:`calibrate` knows
        these images. By default pixels are the scores of the detector.
    """

    score: str | None = None
    map_values: str | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class MapConfig(ScoreConfig):
    """The parameters of a detector that blurs its anomaly maps: those of :class:`ScoreConfig` and one more.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels of the Gaussian that smooths the anomaly map; 0 for none. At most the longer
        side of the transformed images.
    """

    sigma: float = 4.0


@dataclass(kw_only=True, eq=False, repr=False)
class PaDiMConfig(MapConfig):
    """The parameters of PaDiM: those of :class:`MapConfig` and these.

    Parameters
    ----------
    estimator : str or Estimator
        A registered name, with arguments if wanted (``"shrinkage(0.2)"``), or an estimator.
    n_components : int, optional
        Channels drawn from all layers together; the backbone's default otherwise (100 for resnet18, 550 for
        wide_resnet50_2), or all channels where there are fewer.
    reduction : str, optional
        ``"leading"`` for the first channels of each layer, ``"random"`` for a draw, ``"orthogonal"`` for a projection
        to a random subspace; by default leading ones where the backbone orders its channels, else a draw.
    pad_mode : str
        How the map goes on beyond its edges when it is blurred: ``"symmetric"``, as in the first implementations, or
        ``"reflect"``, as in anomalib and anodet; see :data:`~padim_zoo.features.anomaly_map.EDGES`.
    register : str, optional
        Each image is brought to the mean pose of the part before it is embedded: ``"rigid"`` turns and shifts it,
        ``"translation"`` shifts it, and ``"auto"`` takes what gives the normal images the highest held-out likelihood,
        or nothing. No more of a pose is undone than normal parts have, and a calibrated detector lifts the score of a
        pose that is rarer. Maps are in the pixels of the image. See :mod:`padim_zoo.detectors.registration` and
        :mod:`padim_zoo.detectors.pose_evidence`. Not with ``augment``, ``tta`` or ``roi``.
    trim_patches : float, optional
        At each patch, the share of the normal images that is left out: those most unlike the others there, in (0, 0.5).
        See :mod:`padim_zoo.estimators.patch_trimming`. Not with ``augment``, nor with a mask for each image.
    """

    estimator: str | Estimator = field(default="full", kw_only=False)
    n_components: int | None = None
    reduction: str | None = None
    pad_mode: str = "symmetric"
    register: str | None = None
    trim_patches: float | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class PatchCoreConfig(MapConfig):
    """The parameters of PatchCore: those of :class:`MapConfig` and these.

    Parameters
    ----------
    coreset_ratio : float
        Share of the normal patches that is kept, in (0, 1].
    n_neighbors : int
        Patches of the memory bank around the nearest one that weigh the score of the image (equation 7); 1 for no
        weight.
    levels : int
        The last so many of the layers are used: of the usual three the second and the third, as in the paper. All
        three are extracted, so that PaDiM shares the features.
    radius : int, optional
        A patch is compared with normal patches of at most so many positions further along either axis: 0 for those of
        its own position. The coreset is then chosen in each cell of ``radius + 1`` positions a side. By default with
        those of all positions, as in the paper.
    trim_patches : float, optional
        The share of the normal patches that is left out before the coreset is chosen, in (0, 0.5): those of the lowest
        local density among the normal patches of their position, as in SoftPatch (Jiang et al. 2022, arXiv 2403.14233).
        At most half of the patches of a position go. Not with ``augment``, nor with images that differ in size or in
        what counts.
    """

    coreset_ratio: float = 0.1
    n_neighbors: int = 9
    levels: int = 2
    radius: int | None = None
    trim_patches: float | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class SubspaceConfig(MapConfig):
    """The parameters of Subspace: those of :class:`MapConfig` and these.

    Parameters
    ----------
    score : str, optional
        As of :class:`ScoreConfig`; by default the mean of the highest 1 % of the map, as in the paper.
    explained_variance : float
        In (0, 1]: the leading principal components that together explain this share of the variance of all normal
        patches are normal. At least one direction is left beyond them. The paper has 0.99.
    levels : int
        The last so many of the layers are used, as of :class:`PatchCoreConfig`.
    """

    score: str | None = "mean(0.01)"
    explained_variance: float = 0.9
    levels: int = 2


@dataclass(kw_only=True, eq=False, repr=False)
class SPADEConfig(MapConfig):
    """The parameters of SPADE: those of :class:`MapConfig` and these.

    ``layers`` are by default the backbone's usual three, which make the map, and its last stage, which finds the
    images.

    Parameters
    ----------
    n_neighbors : int
        Normal images to compare with, k of the paper; all, where there are fewer.
    levels : int
        The first so many of the layers make the map.
    """

    n_neighbors: int = 50
    levels: int = 3


@dataclass(kw_only=True, eq=False, repr=False)
class MahalanobisADConfig(BackboneConfig):
    """The parameters of MahalanobisAD: those of :class:`BackboneConfig` and these.

    ``layers`` are by default all stages. The paper's backbones are ``timm/efficientnet_b4`` and its like.

    Parameters
    ----------
    covariance : str
        An estimator of the form a·S + b·I: the paper's is Ledoit and Wolf's, with nothing added to the diagonal.
    components : str
        ``"all"``; ``"pca"`` for the leading principal components that together explain the share
        ``explained_variance`` of the variance of the samples; ``"npca"``, negated PCA, for all but these.
    explained_variance : float
        In (0, 1].
    threshold : str
        How :meth:`calibrate` makes a threshold: ``"out-of-fold"``, from scores of images that were left out; or
        ``"chi2"``, from the χ² distribution that squared distances have if the features are Gaussian and the
        covariance is known. It needs no images, and promises what it says only as far as that holds.
    """

    covariance: str = "ledoit-wolf(epsilon=0)"
    components: str = "all"
    explained_variance: float = 0.99
    threshold: str = "out-of-fold"


@dataclass(kw_only=True, eq=False, repr=False)
class STFPMConfig(ScoreConfig):
    """The parameters of STFPM: those of :class:`ScoreConfig` and these.

    ``backbone`` is ``builtin``, or of torchvision or timm; the paper's is resnet18. The paper takes 256 × 256 pixels
    without a crop; so does the default here with square images.

    Parameters
    ----------
    epochs : int
        At most.
    patience : int
        Epochs without a lower held-out loss after which the training ends.
    learning_rate : float, optional
        Of the gradient descent; by default 0.4, the paper's, or 0.05 for students without batch norms.
    held_out : float
        Share of the normal images that is not trained on, but chooses the epoch, and gives the threshold.
    train_batch : int
        Images of a step of the training.
    checkpoint : str, optional
        File that the state of the training is written to after every epoch, and taken up from; one training each.
    """

    epochs: int = 100
    patience: int = 20
    learning_rate: float | None = None
    held_out: float = 0.2
    train_batch: int = 32
    checkpoint: str | None = None


ENSEMBLE_RULES = ("mean", "max", "rank")
"""How the members of an ensemble may be combined."""


@dataclass(kw_only=True, eq=False, repr=False)
class EnsembleConfig:
    """The parameters of an ensemble.

    Parameters
    ----------
    members : sequence of BackboneDetector
        At least two. Those that are fitted have to be calibrated.
    rule : str
        ``"mean"``; ``"max"``; or ``"rank"``, the mean share of out-of-fold normal scores below a score. Beyond all
        normal scores ranks are equal, so ``"rank"`` tells how sure it is that an image is anomalous, not how anomalous
        it is. Maps are averaged under ``"rank"``.
    weights : str or sequence of float
        Of the members, for ``"mean"`` and ``"rank"``: ``"uniform"``; ``"learned"``, those of the mean that varies least
        over the out-of-fold normal scores, none of them negative; or numbers.
    """

    members: Sequence[Detector] = field(default=(), kw_only=False)
    rule: str = "mean"
    weights: str | Sequence[float] = "uniform"


PASSES = 4
"""Views of each normal image in a fit with ``augment`` that does not say how many."""

SMALL_FIT = 40
"""A fit on fewer images says what so few cannot do."""

FALSE_ALARM_RATE = 0.05
"""The rate that a threshold aims at when none is asked for, where there are images enough: see docs/thresholds.md."""

MAP_VALUES = ("p-value",)
"""What pixels of maps may be, beside scores."""

DECIDES = ("image", "pixel", "region")
"""What may decide whether an image is anomalous: its score, the maximum of its map, or a region that it shows."""

REGION_AREAS = (1, 4, 16, 64, 256)
"""The least areas of regions, in pixels of the map, for which a calibration knows normal images."""

CALIBRATION_FOLDS = 5
"""Folds of the normal images by which a threshold is set."""

SUSPECTS_RATE = 0.05
"""Share of normal images among the suspects that is aimed at."""


LARGEST_SEED = 2**32 - 1
"""NumPy's legacy generators, by which scikit-learn draws folds, take no larger one."""


def check_whole_number(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse what is not a whole number from ``least`` on.

    Raises
    ------
    InputError
        Naming the parameter, what was found and what was expected.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} is {value!r}: expected a whole number {bounds}")


def check_share(name: str, value: Any) -> None:
    """Refuse what is no share of a whole, in (0, 1].

    Raises
    ------
    InputError
        Naming the parameter, what was found and what was expected.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1:
        raise InputError(f"{name} is {value!r}: expected a number above 0 and up to 1")


def check_text(name: str, value: Any, *others: type) -> None:
    """Refuse what is neither text nor of another type that will do.

    Raises
    ------
    InputError
        Naming the parameter, what was found and what was expected.
    """
    if not isinstance(value, (str, *others)):
        raise InputError(f"{name} is {value!r}: expected text")


def check_trim_patches(share: Any, augment: str | None) -> None:
    """Refuse what is no share of patches to trim, in (0, 0.5), and augmentation beside it.

    Raises
    ------
    InputError
        Naming what was found and what was expected.
    """
    if share is None:
        return
    is_number = isinstance(share, Real) and not isinstance(share, bool)
    if not is_number or not 0 < share < 0.5:
        raise InputError(f"trim_patches is {share!r}: expected a number above 0 and below 0.5, e.g. 0.05")
    if augment is not None:
        raise InputError("trim_patches excludes augment: views of one image vouch for each other; leave one out")


def check_map_values(values: Any) -> None:
    """Refuse what no map can hold.

    Raises
    ------
    InputError
        Naming what was found and what was expected.
    """
    if values is not None and values not in MAP_VALUES:
        raise InputError(f"map_values is {values!r}: expected {', '.join(MAP_VALUES)}, or None for scores")


def check_sigma(sigma: Any, image_size: tuple[int, int] | None = None) -> None:
    """Refuse a blur that is no finite number of pixels, or wider than the image where its size is known.

    Raises
    ------
    InputError
        Naming what was found and what was expected.
    """
    is_number = isinstance(sigma, Real) and not isinstance(sigma, bool)
    if not is_number or not math.isfinite(sigma) or sigma < 0:
        raise InputError(f"sigma is {sigma!r}: expected a number of pixels, 0 for no blur")
    if image_size is not None and sigma > max(image_size):
        raise InputError(
            f"sigma is {sigma:g}, but the images have {image_size[0]}x{image_size[1]} pixels after the transform: "
            f"expected at most {max(image_size)}, usually 4"
        )
