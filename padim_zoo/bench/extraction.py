"""Features of a data set's images, read from the disk where they are kept, and what it costs to compute them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from statistics import fmean

import torch

import padim_zoo
from padim_zoo.cache.caches import Caches
from padim_zoo.cache.features import Entry, FeatureCache, Stack, entries_of
from padim_zoo.cache.images import DecodeLedger
from padim_zoo.core.cpu import processor_name
from padim_zoo.data.corruptions import CorruptedFile, Corruption
from padim_zoo.data.file_notes import collecting, note, overhearing
from padim_zoo.data.loading import usual_workers
from padim_zoo.data.sample import Sample
from padim_zoo.detectors.config import BackboneConfig
from padim_zoo.detectors.detector import Detector
from padim_zoo.detectors.ensemble import Ensemble
from padim_zoo.features.features import Features

_READERS = 4


@dataclass(frozen=True)
class Extraction:
    """Features of images.

    Attributes
    ----------
    features : Features
    seconds_per_image : float
        Time to compute them: decoding, transform and forward pass. Never the time to read them from a cache, nor to
        read their images from one: see :func:`seconds_without`.
    cached : int
        Images whose features were read from the cache.
    """

    features: Features
    seconds_per_image: float
    cached: int = 0


def extract(
    detector: Detector,
    samples: Sequence[Sample],
    cache: FeatureCache | None = None,
    batch_size: int = BackboneConfig.batch_size,
    *,
    normal: bool = False,
    corruption: Corruption | None = None,
) -> Extraction:
    """Features of samples; those that the cache lacks are computed and added to it.

    The time of features that are read is the one measured when they were computed, if that was under the conditions of
    now: processor, threads, batch size and versions. If none was, a batch is computed once more to measure it. Each
    member of an ensemble takes its own time.

    Parameters
    ----------
    detector : Detector
        Its :attr:`~padim_zoo.detectors.detector.Detector.cache_key` says whether its features may be kept.
    samples : sequence of Sample
        At least one.
    cache : FeatureCache, optional
        Without one, everything is computed.
    batch_size : int
        The detector's.
    normal : bool
        Whether these are the images of a fit, which some detectors see in several views.
    corruption : Corruption, optional
        What happens to each image before it is looked at.
    """
    if isinstance(detector, Ensemble):
        parts = {
            key: extract(source, samples, cache, batch_size, normal=normal, corruption=corruption)
            for key, source in detector.sources().items()
        }
        return Extraction(
            detector.join([part.features for part in parts.values()]),
            sum(parts[member.features_key].seconds_per_image for member in detector.members),
            min(part.cached for part in parts.values()),
        )
    cache_key = detector.cache_key(fit=normal)
    if cache_key is not None and corruption is not None:
        cache_key = f"{cache_key} {corruption}"

    def compute(uncached: Sequence[Sample]) -> Extraction:
        return _compute(detector, uncached, normal, corruption)

    if cache is None or cache_key is None:
        return compute(samples)
    conditions = _conditions(batch_size)
    stack = Stack(len(samples))
    keys = [""] * len(samples)

    def look_up(index: int) -> Entry | None:
        """The entry of an image whose features are now in the stack."""
        keys[index] = cache.key(samples[index].path, cache_key)
        entry = cache.read(keys[index])
        # Without its maps: those of all images would not fit into memory twice.
        return replace(entry, maps=()) if entry is not None and stack.put(index, entry) else None

    try:
        with ThreadPoolExecutor(_READERS) as pool:
            contexts = [copy_context() for _ in samples]  # which say where large arrays lie
            from_cache = list(pool.map(lambda index: contexts[index].run(look_up, index), range(len(samples))))
    except OSError:  # a file is unreadable, which the detector tells better
        return compute(samples)
    seconds = [entry.seconds for entry in from_cache if entry is not None and entry.conditions == conditions]
    with collecting():
        for sample, entry in zip(samples, from_cache, strict=True):
            for kind in () if entry is None else entry.notes:
                note(kind, str(sample.path))
    missing = [index for index, entry in enumerate(from_cache) if entry is None]
    if missing:
        with collecting(), overhearing() as heard:
            computed = compute([samples[index] for index in missing])
        entries = entries_of(computed.features, computed.seconds_per_image, conditions)
        for index, entry in zip(missing, entries, strict=True):
            cache.write(keys[index], replace(entry, notes=heard.kinds_of(str(samples[index].path))))
        cache.trim()
        if len(missing) == len(samples):
            return computed
        if not all(stack.put(index, entry) for index, entry in zip(missing, entries, strict=True)):
            return compute(samples)  # sizes differ, which the detector refuses
        seconds += [computed.seconds_per_image] * len(missing)
    each = fmean(seconds) if seconds else compute(samples[:batch_size]).seconds_per_image
    return Extraction(stack.features, each, len(samples) - len(missing))


def _conditions(batch_size: int) -> str:
    """What the time of an extraction depends on besides detector and images."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{processor_name()}; {gpu}; threads {torch.get_num_threads()}; batches of {batch_size}; "
        f"torch {torch.__version__}; padim-zoo {padim_zoo.__version__}"
    )


def _compute(detector: Detector, samples: Sequence[Sample], normal: bool, corruption: Corruption | None) -> Extraction:
    files = samples if corruption is None else [CorruptedFile(sample.path, corruption) for sample in samples]
    images = detector.cache.images if isinstance(detector.cache, Caches) else None
    with nullcontext(DecodeLedger()) if images is None else images.accounting() as ledger:
        start = time.perf_counter()
        features = detector.extract_normal(files) if normal else detector.extract(files)
        seconds = time.perf_counter() - start
    return Extraction(features, seconds_without(seconds, ledger) / len(samples))


def seconds_without(seconds: float, ledger: DecodeLedger) -> float:
    """The time that an extraction would have taken without a cache of images, from the time that it took with one.

    Decoding of the images that were read took the time of a processor core that is in their entries. On a processor it
    takes turns with the network, in as many threads. On a GPU it goes on while the network works, and the slower of
    both decides.

    Parameters
    ----------
    seconds : float
        That the extraction took.
    ledger : DecodeLedger
        Of the cache meanwhile.
    """
    if torch.cuda.is_available():
        return max(seconds, ledger.saved / usual_workers())
    return seconds + (ledger.saved - ledger.spent) / min(usual_workers(ahead=False), torch.get_num_threads())
