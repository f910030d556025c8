"""The contract of detectors, as checks."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.base import clone

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.loading import load
from padim_zoo.detectors.prediction import Prediction
from padim_zoo.testing.contract import Registered, checks_of, create, in_one_line, refusal, run_checks
from padim_zoo.testing.images import anomalous_images, normal_images

TOLERANCE = 1e-4
"""Largest difference of two scores that should be equal up to rounding, relative to the largest score."""

FILE_TOLERANCE = 2e-3
"""The same of scores by a loaded model, whose factors may be in 16 bit."""

SIZE = (48, 64)
NORMAL, ANOMALOUS = 8, 3

_USUAL = {"resize": None, "crop": None, "precision": "float32"}


@dataclass(frozen=True)
class Subject(Registered[Detector]):
    """A detector under test, unfitted, and what it says of some images."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the constructor's arguments."""
        return tuple(inspect.signature(type(self.made)).parameters)

    @cached_property
    def normal(self) -> np.ndarray:
        """Normal images to fit."""
        return normal_images(NORMAL, *SIZE)

    @cached_property
    def tested(self) -> np.ndarray:
        """Normal images that were not fitted on, then anomalous ones."""
        return np.concatenate([normal_images(ANOMALOUS, *SIZE, seed=7), anomalous_images(ANOMALOUS, *SIZE)])

    @cached_property
    def fitted(self) -> Any:
        """One that was fitted on the normal images, not to be changed."""
        return self.make().fit(self.normal)

    @cached_property
    def prediction(self) -> Any:
        """What :attr:`fitted` says of the tested images."""
        return self.fitted.predict(self.tested)


def check_detector(spec: str, **options: Any) -> None:
    """Check that a registered detector keeps the contract.

    Some normal images of one texture are fitted, and others with a defect that is hard to miss are scored.

    Parameters
    ----------
    spec : str
        A registered name, with arguments if wanted.
    **options
        Arguments of the constructor; small and fast ones do, e.g. ``backbone="scattering"``. Where it has the
        arguments ``resize`` and ``crop``, they are None unless given here: images of 48 × 64 pixels are left as they
        are. Where it has ``precision``, that is float32, so that what has to be equal is so on every machine.

    Raises
    ------
    ContractError
        Naming everything that is wrong.
    InputError
        If the name is not registered.
    """
    factory = registry.detectors.entry_of(spec).factory
    taken = inspect.signature(factory).parameters
    options = {name: value for name, value in _USUAL.items() if name in taken} | options
    detector = create(registry.detectors, spec, Detector, **options)
    run_checks(f"the detector {spec!r}", Subject(registry.detectors, spec, detector, options), checks_of(__name__))


# -- the checks: what each yields is one line for each thing that is wrong -------------------------------------------


def registration(subject: Subject) -> Iterator[str]:
    """A saved model finds its detector by its name; listings have a line on it."""
    name = subject.name
    yield from subject.listing()
    if subject.registry.entry(name).factory is not type(subject.made):
        yield "what is registered is not the class itself: a saved model is loaded by its class method from_file"
    if getattr(subject.made, "name", name) != name:
        yield f"its name is {getattr(subject.made, 'name', None)!r}: expected the registered one, {name!r}"


def parameters(subject: Subject) -> Iterator[str]:
    """Constructor arguments are stored unchanged under their names, so that clones and searches work."""
    detector = subject.made
    signature = inspect.signature(type(detector)).parameters
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in signature.values()):
        yield "the constructor takes *args or **kwargs: expected every parameter by its name"
        return
    missing = [name for name in signature if not hasattr(detector, name)]
    if missing:
        yield f"the arguments {', '.join(missing)} of the constructor are not attributes: expected self.NAME = NAME"
        return
    for name, value in subject.options.items():
        if name in signature and detector.get_params()[name] is not value:
            yield f"{name}={value!r} was given, and {detector.get_params()[name]!r} is kept: expected it unchanged"
    try:
        copy = clone(detector)
    except Exception as error:
        yield f"scikit-learn cannot clone it: {in_one_line(error)}"
        return
    if repr(copy.get_params()) != repr(detector.get_params()):
        yield f"a clone has the parameters {copy.get_params()}: expected {detector.get_params()}"
    try:
        copy.set_params(no_such_parameter=1)
    except ValueError:
        pass
    else:
        yield "set_params takes a parameter that does not exist: expected ValueError"
    if copy.set_params(**detector.get_params(deep=False)) is not copy:
        yield "set_params does not return the detector: expected self"


def unfitted(subject: Subject) -> Iterator[str]:
    """A detector that was not fitted says so."""
    yield from refusal(lambda: subject.make().predict(subject.tested), "predict before fit")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        yield from refusal(lambda: subject.make().save(path), "save before fit")
        if path.exists():
            yield "save before fit leaves a file behind"


def predictions(subject: Subject) -> Iterator[str]:
    """Scores (N,) and maps (N, H, W) in register with the transformed images, float32 and finite."""
    detector = subject.make()
    if detector.fit(subject.normal) is not detector:
        yield "fit does not return the detector: expected self"
    prediction, count = subject.prediction, len(subject.tested)
    if not isinstance(prediction, Prediction):
        yield f"predict gives a {type(prediction).__name__}: expected a padim_zoo.Prediction"
        return
    scores, maps = prediction.scores, prediction.maps
    size = subject.fitted.transform.image(subject.tested[0]).shape[:2]
    for what, array, shape in (("scores", scores, (count,)), ("maps", maps, (count, *size))):
        if array is None:
            continue
        if not isinstance(array, np.ndarray) or array.shape != shape:
            yield f"{what} have the shape {getattr(array, 'shape', None)}: expected {shape}, as the transform gives"
            return
        if array.dtype != np.float32:
            yield f"{what} are {array.dtype}: expected float32"
        if not np.isfinite(array).all():
            yield f"{what} are not all finite"
    if (maps is not None) != detector.makes_maps:
        yield f"makes_maps is {detector.makes_maps}, but predict gives {'no ' if maps is None else ''}maps"
    elif maps is not None and detector.threshold_serves_maps and not _near(maps.max((1, 2)), scores):
        yield "scores are not the maxima of the maps: set score_is_map_maximum = False, or one threshold serves both"
    if prediction.threshold is not None:
        yield f"before calibrate the threshold is {prediction.threshold!r}: expected None"


def anomalies(subject: Subject) -> Iterator[str]:
    """A defect that is hard to miss raises the score, and the map is high where it is."""
    prediction = subject.prediction
    good, bad = prediction.scores[:ANOMALOUS], prediction.scores[ANOMALOUS:]
    if not bad.min() > good.max():
        yield (
            f"images with a large defect score {_numbers(bad)}, and normal ones {_numbers(good)}: expected a larger "
            "score to be more anomalous"
        )
    if prediction.maps is not None:
        maps = prediction.maps[ANOMALOUS:].mean(0)
        height, width = maps.shape
        where = maps[: height // 2, width // 2 :].mean()
        if not where > maps[height // 2 :, : width // 2].mean():
            yield (
                "the map of a defect in the upper right is higher in the lower left: are rows and columns exchanged, "
                "or is a larger value less anomalous?"
            )


def determinism(subject: Subject) -> Iterator[str]:
    """Equal fits give equal scores, a second fit forgets the first, and images are left as they were."""
    before = subject.normal.copy()
    again = subject.make().fit(subject.normal)
    if not np.array_equal(subject.normal, before):
        yield "fit changes the images that it is given"
    if not np.array_equal(again.predict(subject.tested).scores, subject.prediction.scores):
        yield "fitted again on the same images it gives other scores: draw from a seed"
    if not np.array_equal(again.predict(subject.tested).scores, again.predict(subject.tested).scores):
        yield "the same images have other scores the second time"
    others = normal_images(NORMAL, *SIZE, seed=11)
    refitted = subject.make().fit(others).fit(subject.normal)
    if not _near(refitted.predict(subject.tested).scores, subject.prediction.scores):
        yield "a fit does not forget an earlier fit on other images"


def batch_invariance(subject: Subject) -> Iterator[str]:
    """The score of an image does not depend on the others, nor on the batch size."""
    alone = np.concatenate([subject.fitted.predict(image[None]).scores for image in subject.tested])
    if not _near(alone, subject.prediction.scores):
        yield "an image has another score when it is scored alone: expected no more than rounding"
    if "batch_size" in subject.arguments:
        one_by_one = subject.make(batch_size=1).fit(subject.normal).predict(subject.tested)
        if not _near(one_by_one.scores, subject.prediction.scores):
            yield "with batch_size=1 it gives other scores: batches may change speed and memory only"


def features(subject: Subject) -> Iterator[str]:
    """Fit and predict are those of the features, so that a benchmark can extract once and fit many."""
    detector = subject.make()
    extracted = detector.extract_normal(subject.normal)
    to_score = detector.extract(subject.tested)
    if len(to_score) != len(subject.tested):
        yield f"extract gives features of {len(to_score)} images for {len(subject.tested)}"
        return
    if not _near(detector.fit_features(extracted).predict_features(to_score).scores, subject.prediction.scores):
        yield "fit_features and predict_features give other scores than fit and predict"
    key = subject.make().features_key
    if not isinstance(key, str) or not key or key != subject.make().features_key:
        yield f"features_key is {key!r}: expected text, the same for equal parameters"
    if "resize" in subject.arguments and subject.make(resize=32).features_key == key:
        yield "features_key is the same with another resize: a benchmark would take the features of the other"


def kinds_of_images(subject: Subject) -> Iterator[str]:
    """Arrays, PIL images and files of the same pixels score the same; what is no image is refused in words."""
    expected = subject.prediction.scores
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(len(subject.tested))]
        for path, pixels in zip(paths, subject.tested, strict=True):
            Image.fromarray(pixels).save(path)
        for what, images in (
            ("paths", paths),
            ("PIL images", [Image.fromarray(pixels) for pixels in subject.tested]),
            ("a folder", folder),
        ):
            if not _near(subject.fitted.predict(images).scores, expected):
                yield f"{what} have other scores than arrays of the same pixels: read them by padim_zoo.data.loading"
        broken = Path(folder) / "broken.png"
        broken.write_bytes(b"no image")
        missing = Path(folder) / "missing.png"
        for what, images in (("a broken image file", [broken]), ("a missing image file", [missing]), ("no images", [])):
            yield from refusal(subject.make().fit, f"a fit on {what}", images)
            yield from refusal(subject.fitted.predict, f"predict of {what}", images)
    if subject.fitted.transform.crop is None and "resize" in subject.arguments:
        larger = normal_images(1, SIZE[0] + 16, SIZE[1] + 32)
        must = subject.prediction.maps is not None and not getattr(subject.fitted, "takes_sizes", False)
        what = "an image of another size than those of the fit"
        yield from refusal(subject.fitted.predict, what, larger, must_raise=must)


def labeled_images(subject: Subject) -> Iterator[str]:
    """Fit takes labels, 1 and -1 as scikit-learn has them, and leaves anomalous images out."""
    labels = np.array([1] * NORMAL + [-1] * ANOMALOUS)
    images = np.concatenate([subject.normal, anomalous_images(ANOMALOUS, *SIZE)])
    try:
        detector = subject.make().fit(images, labels)
    except TypeError as error:
        yield f"fit takes no labels ({error}): expected fit(images, y=None), as scikit-learn calls it"
        return
    if not _near(detector.predict(subject.tested).scores, subject.prediction.scores):
        yield (
            "images labeled -1 change the fit: leave them out by normal_images(images, y) of "
            "padim_zoo.detectors.scikit_learn"
        )


def calibration(subject: Subject) -> Iterator[str]:
    """A threshold comes with every prediction, until the next fit; or there is none, and that is said."""
    detector = subject.make().fit(subject.normal)
    try:
        threshold = detector.calibrate(folds=2).threshold
    except InputError:
        return
    predicted = detector.predict(subject.tested)
    if predicted.threshold != threshold or detector.threshold_ != threshold:
        yield (
            f"calibrate gives the threshold {threshold!r}, predictions {predicted.threshold!r} and threshold_ "
            f"{detector.threshold_!r}: expected one"
        )
    if not _near(predicted.scores, subject.prediction.scores):
        yield "scores change by calibrate"
    detector.fit(subject.normal)
    if detector.threshold_ is not None:
        yield "a new fit keeps the threshold of the old one: expected None"
    yield from refusal(lambda: detector.calibrate(false_alarm_rate=1e-9), "a false-alarm rate of 1e-9 of few images")


def model_file(subject: Subject) -> Iterator[str]:
    """A saved detector is one safetensors file that scores the same after loading, threshold included."""
    detector = subject.make().fit(subject.normal)
    with suppress(InputError):  # it may make no threshold
        detector.calibrate(folds=2)
    expected = detector.predict(subject.tested)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        try:
            detector.save(path)
            if [each.name for each in Path(folder).iterdir()] != [path.name]:
                yield f"save leaves {sorted(each.name for each in Path(folder).iterdir())}: expected one file"
            loaded = load(path)
        except InputError as error:
            yield f"it cannot be saved and loaded: {error}"
            return
        again = loaded.predict(subject.tested)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        yield from refusal(lambda: load(path), "a file that was cut in half")
    if not _near(again.scores, expected.scores, FILE_TOLERANCE):
        yield f"after loading it scores {_numbers(again.scores)}, and {_numbers(expected.scores)} before"
    if (again.maps is None) != (expected.maps is None) or (
        again.maps is not None and not _near(again.maps, expected.maps, FILE_TOLERANCE)
    ):
        yield "after loading it gives other maps"
    if again.threshold != expected.threshold:
        yield f"after loading the threshold is {again.threshold!r}: expected {expected.threshold!r}"
    if loaded.transform.to_dict() != detector.transform.to_dict():
        yield f"after loading the transform is {loaded.transform}: expected {detector.transform}"


def description(subject: Subject) -> Iterator[str]:
    """Size in bytes, and a few words on the fit."""
    size = subject.fitted.size_in_bytes()
    if not isinstance(size, int) or size <= 0:
        yield f"size_in_bytes gives {size!r}: expected a whole number of bytes"
    words = subject.fitted.describe_fit()
    if not words or not all(isinstance(text, str) and len(title) <= 10 for title, text in words.items()):
        yield f"describe_fit gives {words!r}: expected text by titles of at most ten letters"


def _near(values: np.ndarray, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether arrays agree, relative to the largest value expected."""
    if values.shape != expected.shape:
        return False
    return bool(np.abs(values - expected).max() <= tolerance * max(float(np.abs(expected).max()), 1e-30))


def _numbers(scores: np.ndarray) -> str:
    return ", ".join(f"{score:.4g}" for score in scores)
