"""A model of anomalib as a detector of the zoo: fitted by anomalib's own training, saved without pickle.

It sees the images after padim-zoo's transform and gives its raw scores and maps, before anomalib's post-processor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from padim_zoo.plugin import (
    CALIBRATION_FOLDS,
    LARGEST_SEED,
    Calibration,
    Detector,
    DetectorFile,
    DetectorInMemory,
    Features,
    HeldOutScores,
    InputError,
    PatchEmbeddings,
    Prediction,
    Transform,
    add_calibration,
    batches,
    calibration_in,
    check_whole_number,
    folds_of,
    groups_with_copies,
    resolve_device,
    unfitted,
    write_detector,
)
from padim_zoo_anomalib import training
from padim_zoo_anomalib.catalog import Known

Size = int | tuple[int, int] | None

SAME_AFTER_LOADING = 1e-5
"""How far, relative to the largest score, a model may be moved by saving and loading it."""


class AnomalibDetector(Detector):
    """A model of anomalib.

    Parameters
    ----------
    max_epochs : int, optional
        Of the training; as many as the model itself wants by default, where it says so.
    options : dict, optional
        Further arguments of anomalib's constructor: ``anomalib/Patchcore(options={"num_neighbors": 1})``.
    seed : int
        Of all that is drawn.
    resize, crop
        As of :class:`padim_zoo.Transform`; anomalib's own resizing plays no part.
    batch_size : int
        Of training and scoring alike.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Attributes
    ----------
    model_
        anomalib's, fitted.
    n_images_ : int
    image_size_ : tuple of int
    """

    model_name: ClassVar[str]
    known: ClassVar[Known]
    score_is_map_maximum = False

    def __init__(
        self,
        *,
        max_epochs: int | None = None,
        options: dict[str, Any] | None = None,
        seed: int = 0,
        resize: Size = (256, 256),
        crop: Size = None,
        batch_size: int = 32,
        device: str = "auto",
    ) -> None:
        self.max_epochs = max_epochs
        self.options = options
        self.seed = seed
        self.resize = resize
        self.crop = crop
        self.batch_size = batch_size
        self.device = device
        self._model: Any = None
        self._images: Tensor | None = None
        self._network: Mapping[str, Tensor] = {}

    # -- what the parameters stand for -------------------------------------------------------------------------------

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before anomalib is imported.

        Raises
        ------
        InputError
            Naming the parameter, what was found and what was expected.
        """
        check_whole_number("seed", self.seed, 0, LARGEST_SEED)
        check_whole_number("batch_size", self.batch_size, 1)
        if self.max_epochs is not None:
            check_whole_number("max_epochs", self.max_epochs, 1)
            if self.known.one_pass and self.max_epochs != training.ONE_PASS:
                raise InputError(
                    f"max_epochs is {self.max_epochs}, but {self.name} looks at each image once: leave it out"
                )
        if self.options is not None and not isinstance(self.options, dict):
            raise InputError(f"options is {self.options!r}: expected a dictionary of arguments of {self.model_name}")
        self.transform  # noqa: B018  checks resize and crop
        resolve_device(self.device)

    @property
    def transform(self) -> Transform:
        """What happens to an image before the model."""
        return Transform(resize=self.resize, crop=self.crop)

    @property
    def features_key(self) -> str:
        """Features are the transformed images.

        Whatever does not go with anomalib is refused here, and it is imported, before anything is timed.
        """
        self.check_parameters()
        self._class()
        return f"pixels {self.transform.to_dict()}"

    def reset_fit(self, changed: Collection[str]) -> None:
        """Drop the fit, unless only the device or the batch size has changed."""
        super().reset_fit(changed)
        if set(changed) - {"device", "batch_size"}:
            self._model = self._images = None

    def arguments(self) -> dict[str, Any]:
        """Arguments of anomalib's constructor."""
        return dict(self.options or {})

    def build(self, size: tuple[int, int], network: Mapping[str, Tensor] | None) -> Any:
        """anomalib's model, unfitted, for images of some size; ``network`` None spares it pretrained weights."""
        return training.build(self._class(), size, self.arguments())

    def _class(self) -> Any:
        try:
            import anomalib.models
            import lightning.pytorch  # noqa: F401
        except ModuleNotFoundError as error:
            raise InputError(f"{self.name} needs {error.name}: pip install anomalib") from None
        if not hasattr(anomalib.models, self.model_name):
            raise InputError(f"anomalib {anomalib.__version__} has no model {self.model_name}: install a later one")
        return getattr(anomalib.models, self.model_name)

    def pretrained(self) -> Mapping[str, Tensor]:
        """Weights of the zoo that the model starts from."""
        return {}

    # -- fit and predict ---------------------------------------------------------------------------------------------

    def extract(self, images: Any) -> Features:
        """The transformed images, uint8."""
        self.check_parameters()
        parts = list(batches(images, self.transform, self.batch_size))
        return Features((torch.cat(parts),), (int(parts[0].shape[2]), int(parts[0].shape[3])))

    def fit_features(self, features: Features) -> AnomalibDetector:
        """Fit on transformed images of normal things."""
        self.check_parameters()
        self.calibration_ = None
        self._network = self.pretrained()
        self._model = self._train(features.maps[0])
        self._images = features.maps[0]
        self.image_size_ = features.image_size
        self.n_images_ = len(features)
        return self

    def _train(self, images: Tensor) -> Any:
        size = (int(images.shape[2]), int(images.shape[3]))
        try:
            return training.train(
                lambda: self.build(size, self._network),
                images,
                seed=self.seed,
                batch_size=self.batch_size,
                epochs=None if self.known.one_pass else self.max_epochs,
                device=str(resolve_device(self.device)),
            )
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{self.name} cannot be fitted ({_line(error)})") from error

    @property
    def model_(self) -> Any:
        """The fitted model.

        Raises
        ------
        InputError
            If there is none.
        """
        if self._model is None:
            raise InputError("the detector is not fitted: call fit with normal images first")
        return self._model

    def predict_features(self, features: Features) -> Prediction:
        """Raw scores and maps of transformed images."""
        model = self.model_
        if features.image_size != self.image_size_:
            raise InputError(
                f"an image of {features.image_size} pixels after the transform cannot be scored by a detector fitted "
                f"on {self.image_size_}: use images of the same shape, or a crop"
            )
        return self._score(model, features.maps[0])

    def _score(self, model: Any, images: Tensor) -> Prediction:
        scores, maps = training.score(model, images, self.batch_size, str(resolve_device(self.device)))
        self.makes_maps = maps is not None
        return Prediction(scores, maps, self.threshold_)

    def calibrate(
        self, *, false_alarm_rate: float | None = None, folds: int = CALIBRATION_FOLDS, groups: np.ndarray | None = None
    ) -> Calibration:
        """Set the threshold from scores of the normal images by models fitted without them.

        Images of one group (n,) are held out together and count once. Equal images are a group by themselves.

        Raises
        ------
        InputError
            If the model is trained for long, so that one more for each fold is too much, or was loaded.
        """
        if not self.known.one_pass:
            return super().calibrate(false_alarm_rate=false_alarm_rate, folds=folds, groups=groups)
        self.model_  # noqa: B018  says that there is none
        if self._images is None:
            raise InputError("cannot make a threshold: the model file does not hold the normal images; fit again")
        pixels = PatchEmbeddings.of(Features((self._images,), self.image_size_))
        groups = groups_with_copies(pixels, 1, groups)
        cut = folds_of(len(self._images), folds, self.seed, groups)
        scores = HeldOutScores(len(self._images), false_alarm_rate, groups)
        for rest, held_out in cut:
            model = self._train(self._images[rest])
            for indices in held_out:
                scores.add(indices, self._score(model, self._images[indices]))
        self.calibration_ = scores.calibration(len(cut))
        return self.calibration_

    # -- files -------------------------------------------------------------------------------------------------------

    def describe_fit(self) -> dict[str, str]:
        """What was fitted, in words."""
        return {"fitted": f"{self.name} on {self.n_images_} normal images"}

    def size_in_bytes(self) -> int:
        """Size of the fitted tensors, without those of the backbone as it was given."""
        of_backbone = list(self._network.values())
        return sum(
            tensor.numel() * tensor.element_size()
            for tensor in training.state_of(self.model_).values()
            if not any(tensor.shape == own.shape and torch.equal(tensor.cpu(), own) for own in of_backbone)
        )

    def parameters_for_file(self) -> dict[str, Any]:
        """The constructor's arguments as a file keeps them."""
        return {name: value for name, value in self.get_params().items() if name not in ("device", "batch_size")}

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Header and arrays of the file that :meth:`save` writes.

        Raises
        ------
        InputError
            If the model's state is not all in tensors, so that it would not be the same after loading.
        """
        arrays = {f"model.{name}": tensor.cpu() for name, tensor in training.state_of(self.model_).items()}
        header: dict[str, Any] = {
            "detector": self.name,
            "parameters": self.parameters_for_file(),
            "image_size": list(self.image_size_),
            "n_images": self.n_images_,
        }
        add_calibration(self.calibration_, header, arrays)
        self._check_state(header, arrays)
        return header, {name: array.clone() for name, array in arrays.items()}

    def _check_state(self, header: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        probe = torch.zeros(1, 3, *self.image_size_, dtype=torch.uint8) if self._images is None else self._images[:1]
        reason = ""
        try:
            again = self.from_file(DetectorInMemory(Path("memory"), header, tensors=arrays), device=self.device)
            before, after = self._score(self.model_, probe), again._score(again.model_, probe)
            if not np.allclose(after.scores, before.scores, rtol=SAME_AFTER_LOADING):
                reason = f"a score of {before.scores[0]:.6g} became {after.scores[0]:.6g}"
        except Exception as error:
            reason = _line(error)
        if reason:
            raise InputError(f"{self.name} cannot be saved without pickle: its state is not all in tensors ({reason})")

    def save(self, path: str | Path, *, resumable: bool = False, dtype: str = "float32") -> None:
        """Write the fitted model as one safetensors file; nothing is pickled.

        Raises
        ------
        InputError
            If the model cannot be saved so, or ``resumable`` or another type is asked for.
        """
        if resumable or dtype != "float32":
            raise InputError(f"{self.name} is saved as it is: leave --resumable and --model-dtype out")
        write_detector(path, *self.to_state())

    @classmethod
    def from_file(cls, file: DetectorFile, *, device: str = "auto", batch_size: int = 32) -> AnomalibDetector:
        """Rebuild a detector from a file that :meth:`save` wrote."""
        header = file.header
        detector = unfitted(cls, header, device=device, batch_size=batch_size)
        detector.check_parameters()
        detector.image_size_ = (header["image_size"][0], header["image_size"][1])
        detector.n_images_ = header["n_images"]
        with training.quiet():
            model = detector.build(detector.image_size_, None)
        training.load_state(model, file.arrays("model."))
        detector._model = model.eval().to(str(resolve_device(device)))
        detector.calibration_ = calibration_in(file)
        return detector


def _line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else text[:197] + "..."
