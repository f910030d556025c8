"""Parameters of all detectors on a frozen backbone, and what they stand for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import resolve_device, warn_if_slow
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.data.augmentation import Augmentation, ViewSet, parse_operations, views_for_scoring
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.transform import Transform
from padim_zoo.data.view import View
from padim_zoo.detectors.config import PASSES
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.parameters import LARGEST_SEED, check_sigma, check_whole_number
from padim_zoo.statistics.accumulator import default_budget

Size = int | tuple[int, int] | None

RUNTIME = ("device", "batch_size", "memory", "cache")
"""Parameters that change how fast a detector works, not what it finds: a saved model leaves them open."""


class BackboneParameters(Detector):
    """The parameters that every detector on a frozen backbone has.

    Parameters
    ----------
    backbone : str or Backbone
        A registered name (``padim-zoo list backbones``) or a :class:`~padim_zoo.backbones.backbone.Backbone`, which
        wraps any network.
    weights : str
        ``"default"``, ``"none"`` (random, seeded) or the path of a weights file. Ignored when ``backbone`` is no name.
    layers : sequence of str, optional
        Layers of the backbone; those of :meth:`layers_wanted` by default.
    seed : int
        Seed of all that is drawn, and of the cut into folds; 0 to 2³² - 1.
    resize : int, (int, int) or None
        Length of the shorter side in pixels, or exact height and width, before the crop.
    crop : int, (int, int) or None
        Size of the center crop in pixels, or None for no crop.
    sigma : float
        Standard deviation in pixels of the Gaussian that smooths the anomaly map; 0 for none. At most the longer
        side of the transformed images.
    batch_size : int
        Images that pass through the backbone at once; changes speed and memory only.
    memory : int, optional
        Bytes that a fit may take beside the backbone; half of what is free by default. What is larger goes to files
        that are mapped, in the cache folder, and that vanish with the process. Fewer than ``batch_size`` images pass
        through the backbone at once when their activations would take more than half of it.
    cache : bool or Caches
        Whether features and resized images of image files are kept on disk for the next fit or prediction, in the
        cache folder (``padim-zoo cache info``). Scores are the same. Where masks of pixels go with the features
        (``roi``, or ``tta`` by rotations or shifts), images alone are kept.
    device : str
        ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` …, for the backbone.
    precision : str
        Type that the backbone computes in: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for bfloat16 where the device
        has it in hardware and the network can compute in it, else float32; see
        :func:`~padim_zoo.backbones.device.resolve_precision`. A file says which it was: a detector fitted in float32
        stays so everywhere, and one that ``"auto"`` fitted in bfloat16 computes in float32, with a warning, where
        bfloat16 is slow.
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
        folder with one for each. Patches of which no pixel counts take part in nothing. A model file holds the
        mask for all images; a folder has to be named again, see :meth:`predict`.

    Attributes
    ----------
    backbone_ : Backbone or None
        Made at first use, see :meth:`build_backbone`.
    """

    def __init__(
        self,
        backbone: str | Backbone = "builtin",
        *,
        weights: str = "default",
        layers: tuple[str, ...] | list[str] | None = None,
        seed: int = 0,
        resize: Size = 256,
        crop: Size = 224,
        sigma: float = 4.0,
        batch_size: int = 32,
        memory: int | None = None,
        cache: bool | Caches = False,
        device: str = "auto",
        precision: str = "auto",
        augment: str | None = None,
        passes: int | None = None,
        tta: str | None = None,
        roi: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.layers = layers
        self.seed = seed
        self.resize = resize
        self.crop = crop
        self.sigma = sigma
        self.batch_size = batch_size
        self.memory = memory
        self.cache = cache
        self.device = device
        self.precision = precision
        self.augment = augment
        self.passes = passes
        self.tta = tta
        self.roi = roi
        self.backbone_: Backbone | None = None
        self._precision_in_file: str | None = None
        self._roi: tuple[Any, RegionOfInterest] | None = None

    @classmethod
    def layers_wanted(cls, backbone: str) -> tuple[str, ...] | None:
        """Layers of a registered backbone that are used when none are named; None for its default ones."""
        return None

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read.

        Names that registries know, and what depends on the backbone, are looked at where they are resolved.

        Raises
        ------
        InputError
            Naming the parameter, what was found and what was expected.
        """
        check_whole_number("seed", self.seed, 0, LARGEST_SEED)
        check_whole_number("batch_size", self.batch_size, 1)
        if self.memory is not None:
            check_whole_number("memory", self.memory, 1)
        if not isinstance(self.cache, (bool, Caches)):
            raise InputError(
                f"cache is {self.cache!r}: expected True or False; the environment variable PADIM_ZOO_CACHE names the "
                "folder"
            )
        check_sigma(self.sigma)
        if isinstance(self.layers, str):
            raise InputError(f"layers is {self.layers!r}: expected a sequence of names, e.g. ({self.layers!r},)")
        self.transform  # noqa: B018  checks resize and crop
        self.views_of_fit()
        self.region_of_interest()

    def views_of_fit(self) -> ViewSet:
        """The views of normal images: those of the passes, then those for scoring beyond the first.

        Raises
        ------
        InputError
            If ``augment``, ``passes`` or ``tta`` cannot be read.
        """
        if self.augment is None and self.passes is not None:
            raise InputError(f"passes is {self.passes!r} without augment: say what to change, e.g. flip,rotate(10)")
        passes = 1
        if self.augment is not None:
            passes = PASSES if self.passes is None else self.passes
            check_whole_number("passes", passes, 2)
        operations = () if self.augment is None else parse_operations("augment", self.augment)
        return ViewSet(Augmentation(operations, passes, self.seed), self.views_of_score()[1:])

    def views_of_score(self) -> tuple[View, ...]:
        """The views by which an image is scored; the first is the image as it is."""
        return views_for_scoring(() if self.tta is None else parse_operations("tta", self.tta))

    def region_of_interest(self) -> RegionOfInterest | None:
        """What ``roi`` stands for; opened once.

        Raises
        ------
        InputError
            If there is no such file or folder, or nothing counts.
        """
        if self.roi is None:
            return None
        if self._roi is None or self._roi[0] is not self.roi:
            self._roi = (self.roi, RegionOfInterest(self.roi))
        return self._roi[1]

    @property
    def transform(self) -> Transform:
        """What happens to an image before the backbone."""
        return Transform(resize=self.resize, crop=self.crop)

    def build_backbone(self) -> Backbone:
        """The backbone, made at first use.

        Raises
        ------
        InputError
            If a parameter is none (:meth:`check_parameters`), the name is unknown or makes no Backbone, the weights do
            not fit or cannot be had, or the device is not there or the precision unknown.
        """
        self.check_parameters()
        if self.backbone_ is None:
            if isinstance(self.backbone, str):
                layers = self.layers or self.layers_wanted(self.backbone)
                made = registry.backbones.create(self.backbone, layers=layers, weights=self.weights)
            else:
                made = self.backbone
            self.use_backbone(made)
        assert self.backbone_ is not None
        return self.backbone_

    def use_backbone(self, made: Any, fitted_in: str | None = None) -> None:
        """Take a backbone that a factory made, on the device and in the precision that are asked for.

        Parameters
        ----------
        made : Backbone
            In float32, unless it was given so.
        fitted_in : str, optional
            The precision of the fit, of a detector that is loaded: what ``"auto"`` means then, as far as it is fast
            here.

        Raises
        ------
        InputError
            If it is none, or the device is not there or the precision unknown.
        """
        device = resolve_device(self.device)
        backbone = _checked(made).to(device).eval()
        asked = "float32" if (self.precision, fitted_in) == ("auto", "float32") else self.precision
        self.backbone_ = backbone.in_precision(asked)
        self._precision_in_file = fitted_in
        if asked == "auto" and fitted_in not in (None, self.backbone_.precision):
            warnings.warn(
                f"the model was fitted in {fitted_in} and computes in {self.backbone_.precision} here, where that is "
                "faster: scores move by up to about 3 %, and the threshold does not; a model fitted with precision "
                "float32 scores the same on every machine",
                stacklevel=2,
            )
        else:
            warn_if_slow(self.backbone_.precision, device)

    @property
    def precision_(self) -> str:
        """Type in which the features of the fit were computed; before a fit, and usually, that of the backbone."""
        return self._precision_in_file or self.build_backbone().precision

    def _budget(self) -> int:
        return default_budget() if self.memory is None else self.memory

    def parameters_for_file(self) -> dict[str, Any]:
        """The constructor's arguments as a file keeps them, names for objects."""
        backbone = self.build_backbone()
        return {
            **{n: value for n, value in self.get_params(deep=False).items() if n not in (*RUNTIME, "roi")},
            "backbone": backbone.name,
            "weights": Path(backbone.weights_source).name,
            "layers": list(backbone.layers),
        }


def _checked(backbone: Any) -> Backbone:
    """What is registered or given as a backbone, if it is one."""
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"the backbone is a {type(backbone).__name__}: expected a padim_zoo.backbones.backbone.Backbone; wrap a "
            "network by Backbone(network, name=…, layers=…, strides=…, state=network.state_dict(), weights_source=…)"
        )
    return backbone
