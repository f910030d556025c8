"""Images to the features of a frozen backbone: which views of them pass through it, and what tells features apart."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.conversion import decide_runtime, in_runtime
from padim_zoo.backbones.device import resolve_device
from padim_zoo.backbones.placement import placed
from padim_zoo.cache.caches import Caches
from padim_zoo.core.errors import InputError
from padim_zoo.core.spill import return_freed_memory
from padim_zoo.data.augmentation import (
    AS_IT_IS,
    Augmentation,
    ViewSet,
    canonical_operations,
    parse_operations,
    views_for_scoring,
)
from padim_zoo.data.bit_depth import FULL_DEPTH, check_depth, largest_of
from padim_zoo.data.coverage import other_aspects
from padim_zoo.data.grid import look_ahead
from padim_zoo.data.loading import usable_processors, view_batches
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.sources import count_of, listed
from padim_zoo.data.training_depth import depth_to_assume
from padim_zoo.data.transform import Transform, choose_grid, count_other_aspects
from padim_zoo.detectors.cached_features import CachedFeatures
from padim_zoo.detectors.config import LARGEST_SEED, PASSES, BackboneConfig, check_whole_number
from padim_zoo.features.blocks import block_maps
from padim_zoo.features.features import Features
from padim_zoo.features.poses import Mover
from padim_zoo.features.streaming import Blocks, images_within, plan_blocks
from padim_zoo.runtimes.runtime import AUTO, TORCH, resolve_runtime
from padim_zoo.statistics.accumulator import default_budget


class FeatureExtractor:
    """Backbone, transform, views, region of interest and cache of a detector: images in, features out.

    Features are the maps of the backbone, all channels of all its layers.

    Parameters
    ----------
    config : BackboneConfig
        The parameters of the detector. It renews them whenever it takes the extractor to hand.

    Attributes
    ----------
    backbone : Backbone or None
        Made at first use, see :meth:`build_backbone`.
    grid : (int, int) or None
        Height and width in pixels that images are resized to, where the parameters leave that to the images: those of
        the fit, or of :meth:`on_grid_of`.
    shared_stride : int or None
        The coarsest stride of all members of an ensemble, which have one grid.
    registration : Mover or None
        What brings images to the mean pose of the part; None where they stay as they are.
    assumed_depth : int or None
        The bit depth that the normal images of the fit were found to have, see :meth:`look_at`.
    native_size : (int, int) or None
        Height and width of the largest image of a fit, where images are not resized: see :meth:`on_grid_of`.
    """

    registration: Mover | None = None
    accepts_bfloat16: ClassVar[bool] = False
    """Whether maps are left in the type of the network, and not always brought to float32."""

    def __init__(self, config: BackboneConfig) -> None:
        self.config = config
        self.backbone: Backbone | None = None
        self.grid: tuple[int, int] | None = None
        self.shared_stride: int | None = None
        self.assumed_depth: int | None = None
        self.native_size: tuple[int, int] | None = None
        self._plans: dict[Any, Blocks | None] = {}
        self._region: tuple[Any, RegionOfInterest] | None = None
        self._decided_for = 0

    @staticmethod
    def layers_wanted(backbone: str) -> tuple[str, ...] | None:
        """Layers of a registered backbone that are used when none are named; None for its default ones."""
        return None

    # -- what the parameters stand for -------------------------------------------------------------------------------

    def check_parameters(self) -> None:
        """Refuse parameters that nothing can be made of, before any image is read.

        Names that registries know, and what depends on the backbone, are looked at where they are resolved.

        Raises
        ------
        InputError
            Naming the parameter, what was found and what was expected.
        """
        config = self.config
        check_whole_number("seed", config.seed, 0, LARGEST_SEED)
        check_whole_number("batch_size", config.batch_size, 1)
        if config.memory is not None:
            check_whole_number("memory", config.memory, 1)
        if config.stream != "auto":
            check_whole_number("stream", config.stream, 1)
        resolve_runtime(config.runtime)
        if not isinstance(config.cache, (bool, Caches)):
            raise InputError(
                f"cache is {config.cache!r}: expected True or False; the environment variable PADIM_ZOO_CACHE names "
                "the folder"
            )
        if isinstance(config.layers, str):
            raise InputError(f"layers is {config.layers!r}: expected a sequence of names, e.g. ({config.layers!r},)")
        self.transform  # noqa: B018  checks resize, crop and bit depth
        self.views_of_fit()
        self.region_of_interest()

    @property
    def transform(self) -> Transform:
        """What happens to an image before the backbone."""
        config = self.config
        return Transform(resize=config.resize, crop=config.crop, bit_depth=self.bit_depth).on_grid(self.grid)

    @property
    def stride(self) -> int:
        """The coarsest stride of the layers in pixels, or that of the ensemble."""
        return self.shared_stride or max(self.build_backbone().strides)

    def on_grid_of(self, images: Any) -> tuple[FeatureExtractor, Any]:
        """One that resizes to the grid of some images, where the parameters leave it to them; and the images.

        Where images are not resized, it knows how large they are.
        """
        asked = Transform(resize=self.config.resize, crop=self.config.crop)
        if asked.crop is not None or isinstance(asked.resize, tuple):
            return self, images
        stride = self.stride  # makes the backbone, which a copy would make for itself, and each copy anew
        sizes, images = look_ahead(images)
        extractor = copy.copy(self)
        if asked.resize is None:
            extractor.native_size = max(sizes, key=math.prod, default=None)
        elif sizes:
            extractor.grid = choose_grid(sizes, asked.resize, stride)
            others = count_other_aspects(sizes, extractor.grid, stride)
            if others:
                warnings.warn(other_aspects(others, len(sizes), extractor.transform), stacklevel=5)
        return extractor, images

    @property
    def bit_depth(self) -> int:
        """Bits that samples of more than 8 bits use."""
        return check_depth(self.config.bit_depth) or self.assumed_depth or FULL_DEPTH

    def look_at(self, images: Any) -> None:
        """Find out what only the normal images of a fit can tell: here, the bit depth.

        Raises
        ------
        InputError
            If the bit depth that is asked for does not hold their samples.
        """
        self.assumed_depth = depth_to_assume(images, check_depth(self.config.bit_depth)) or self.assumed_depth

    @property
    def learned(self) -> dict[str, Any]:
        """What normal images have told of images themselves, by the names of attributes."""
        return {"assumed_depth": self.assumed_depth}

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Within it an error takes back what normal images have told."""
        before = self.learned
        try:
            yield
        except BaseException:
            vars(self).update(before)
            raise

    def forget(self) -> None:
        """Drop what normal images have told."""
        self.assumed_depth = self.registration = None

    def describe_depth(self) -> dict[str, str]:
        """The bit depth in words, where it is not that of the files."""
        depth = self.bit_depth
        return {} if depth == FULL_DEPTH else {"bit depth": f"{depth}, white is {largest_of(depth)}"}

    @property
    def budget(self) -> int:
        """Bytes that a fit may take beside the backbone."""
        return default_budget() if self.config.memory is None else self.config.memory

    def views_of_fit(self) -> ViewSet:
        """The views of normal images: those of the passes, then those for scoring beyond the first.

        Raises
        ------
        InputError
            If ``augment``, ``passes`` or ``tta`` cannot be read.
        """
        augment, passes = self.config.augment, self.config.passes
        if augment is None and passes is not None:
            raise InputError(f"passes is {passes!r} without augment: say what to change, e.g. flip,rotate(10)")
        if augment is None:
            return self.views_of_score()
        count = PASSES if passes is None else passes
        check_whole_number("passes", count, 2)
        augmentation = Augmentation(parse_operations("augment", augment), count, self.config.seed)
        return ViewSet(augmentation, self.views_of_score().others)

    @property
    def passes_of_fit(self) -> int:
        """How often a fit sees each normal image: so many samples are of one."""
        return self.views_of_fit().augmentation.passes

    def views_of_score(self) -> ViewSet:
        """The views by which an image is scored: as it is, and those of ``tta``."""
        if self.config.tta is None:
            return AS_IT_IS
        return ViewSet(others=views_for_scoring(parse_operations("tta", self.config.tta))[1:])

    def region_of_interest(self) -> RegionOfInterest | None:
        """What ``roi`` stands for; opened once.

        Raises
        ------
        InputError
            If there is no such file or folder, or nothing counts.
        """
        roi = self.config.roi
        if roi is None:
            return None
        if self._region is None or self._region[0] is not roi:
            self._region = (roi, RegionOfInterest(roi))
        return self._region[1]

    # -- backbone ----------------------------------------------------------------------------------------------------

    def build_backbone(self) -> Backbone:
        """The backbone, made at first use.

        Raises
        ------
        InputError
            If the name is unknown or makes no Backbone, the weights do not fit or cannot be had, or the device is not
            there or the precision unknown.
        """
        if self.backbone is not None:
            return self.backbone
        made: Any = self.config.backbone
        if isinstance(made, str):
            layers = self.config.layers or self.layers_wanted(made)
            made = registry.backbones.create(made, layers=layers, weights=self.config.weights)
        return self.use_backbone(made)

    def use_backbone(self, backbone: Any, fitted_in: str | None = None) -> Backbone:
        """Take a backbone that a factory made; arguments are those of :func:`~padim_zoo.backbones.placement.placed`."""
        self.backbone = placed(backbone, self.config.device, self.config.precision, fitted_in)
        self.change_runtime()
        return self.backbone

    def change_runtime(self) -> None:
        """Have the runtime that the parameters ask for run the backbone, once it is made.

        Raises
        ------
        InputError
            If there is no such runtime, or it is not installed.
        """
        asked = resolve_runtime(self.config.runtime)
        self._decided_for = 0
        if self.backbone is None or (self.config.runtime is None and self.backbone.converted is not None):
            return
        # A backbone of its own, whose runtime is decided later, in all copies of the extractor.
        self.backbone = self.backbone.run_by(None) if asked == AUTO else in_runtime(self.backbone, asked)

    def expect(self, images: int | None) -> None:
        """Decide which runtime is the fastest for so many images, if that is left open and their size is known."""
        size = self._largest_size
        if images is None or images <= self._decided_for or resolve_runtime(self.config.runtime) != AUTO:
            return
        backbone = self.build_backbone()
        if size is None or backbone.converted is not None:
            return
        self._decided_for = images
        choice = decide_runtime(backbone, images, size)
        if choice is not None:
            backbone.choice, backbone.converted = choice, in_runtime(backbone, choice.fastest).converted

    @property
    def map_count(self) -> int:
        """How many maps the features of an image have: one of each layer."""
        return len(self.build_backbone().layers)

    # -- keys --------------------------------------------------------------------------------------------------------

    def features_key(self, *, fit: bool = True) -> str:
        """Backbone, weights, precision, runtime, layers, transform and views; nothing that is drawn or chosen later.

        Parameters
        ----------
        fit : bool
            Of normal images, in all views of a fit; otherwise of images to score, which are seen in no pass of it.
        """
        backbone = self.build_backbone()
        layers = ",".join(backbone.layers)
        key = f"{backbone.name} {backbone.weights_hash} {backbone.precision} {layers} {self.transform.to_dict()}"
        key += "" if backbone.runtime == TORCH else f" {backbone.runtime}"
        return key + self.views_key(fit)

    def views_key(self, fit: bool) -> str:
        """What tells views and regions apart; nothing where an image is seen whole and as it is."""
        config, key = self.config, ""
        if fit and config.augment is not None:
            operations = canonical_operations("augment", config.augment)
            key = f" {operations} {self.passes_of_fit} {config.seed}"
        if config.tta is not None:
            key += f" tta {canonical_operations('tta', config.tta)}"
        region = self.region_of_interest()
        return key if region is None else f"{key} roi {region.fingerprint()}"

    def cache_key(self, *, fit: bool) -> str | None:
        """What :meth:`features_key` tells apart, and the device and the code of the network.

        None, so that nothing is kept, where masks of pixels go with the features, or the grid is not known yet.
        """
        if self.transform.leaves_grid:
            return None
        if self.config.roi is not None or any(view.resamples for view in self.views_of_score().others):
            return None
        backbone = self.build_backbone()
        return f"{self.features_key(fit=fit)} {resolve_device(self.config.device).type} {backbone.response}"

    # -- features ----------------------------------------------------------------------------------------------------

    def extract(self, images: Any, *, fit: bool = False, roi: Any = None) -> Features:
        """All features of ``images`` at once, in float32; arguments are those of :meth:`features`."""
        images = listed(images)
        parts = self.features(images, fit=fit, roi=roi)
        count = count_of(images)
        if count is None:
            return Features.concatenate(list(parts)).widened()
        return Features.gather(parts, count)

    def features(
        self,
        images: Any,
        *,
        fit: bool = False,
        roi: Any = None,
        check_size: Callable[[tuple[int, int]], None] | None = None,
        in_work: int | None = None,
    ) -> Iterator[Features]:
        """Features of images, in order, some images at a time.

        Parameters
        ----------
        images
            As :func:`~padim_zoo.data.loading.batches` takes them.
        fit : bool
            In all views of a fit; otherwise in those for scoring.
        roi : path, ndarray or RegionOfInterest, optional
            The pixels of these images that count, as of :meth:`BackboneDetector.predict`.
        check_size : callable, optional
            Refuses images by their height and width after the transform. What the backbone would take for large ones
            may be more than there is.
        in_work : int, optional
            What :meth:`batch_within_budget` says, from who has asked it.
        """
        count = count_of(images)
        self.expect(count)
        size = self.batch_within_budget(count) if in_work is None else in_work
        view_set = self.views_of_fit() if fit else self.views_of_score()
        caches = Caches.of(self.config.cache)
        key = None if caches.features is None or roi is not None else self.cache_key(fit=fit)
        if caches.features is None or key is None:
            for batch, roi_masks in self.image_batches(images, size, view_set, roi):
                if check_size is not None:
                    check_size((int(batch.shape[2]), int(batch.shape[3])))
                yield from self._compute(batch, roi_masks, view_set.count, size)
            return
        stored = CachedFeatures(caches.features, key)
        at_once, ahead = max(1, size // view_set.count), self._decodes_ahead
        for part in stored.batches(images, self.transform, at_once, view_set, ahead=ahead, resized=caches.images):
            if part.pixels is not None and check_size is not None:
                check_size((int(part.pixels.shape[2]), int(part.pixels.shape[3])))
            missing = iter(()) if part.pixels is None else self._compute(part.pixels, None, view_set.count, size)
            yield from stored.complete(part, missing)

    def image_batches(
        self, images: Any, size: int, view_set: ViewSet, roi: Any
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Views of images, with the pixels that count; about ``size`` views at a time."""
        region = own = self.region_of_interest()
        if roi is not None:
            region = RegionOfInterest(roi)
            if own is not None and own.common:
                region = RegionOfInterest.both(own, region)
        at_once, resized = max(1, size // view_set.count), Caches.of(self.config.cache).images
        return view_batches(
            images, self.transform, at_once, view_set, roi=region, ahead=self._decodes_ahead, cache=resized
        )

    def _compute(self, batch: Tensor, roi_masks: Tensor | None, count: int, size: int) -> Iterator[Features]:
        """Features of ``count`` views of each image, in parts; the backbone gets about ``size`` views at a time."""
        backbone = self.build_backbone()
        height, width = int(batch.shape[2]), int(batch.shape[3])
        # All views of an image stay together; the backbone takes no more of them at once than it wants.
        images_at_once = (backbone.images_at_once(height, width) or size) // count
        together = max(1, images_at_once) * count
        poses = None if self.registration is None else self.registration.poses(batch)
        batch = batch if poses is None else poses.to_mean(batch)
        for start in range(0, len(batch), together):
            views = slice(start, start + together)
            masks = None if roi_masks is None else roi_masks[views]
            with torch.inference_mode():
                maps = self.reduce_maps(self._maps(batch[views]), masks)
                if not self.accepts_bfloat16:
                    maps = [layer.float() for layer in maps]
            own = None if poses is None else poses.images(views)
            features = Features(tuple(layer.cpu() for layer in maps), (height, width), count, masks, own)
            del maps
            yield features
            del features  # while the next images pass through the backbone

    def _maps(self, batch: Tensor) -> list[Tensor]:
        """The maps of images (n, 3, H, W), uint8, which pass through the backbone whole or in blocks."""
        backbone = self.build_backbone()

        def forward(part: Tensor) -> list[Tensor]:
            pixels = part.to(backbone.device)
            # Blocks of images that were moved, which are floats, overlap: nothing is changed in place.
            pixels = pixels / 255 if pixels.is_floating_point() else pixels.float().div_(255)
            return backbone.forward_native_dtype(pixels) if self.accepts_bfloat16 else backbone(pixels)

        blocks = self._plan_blocks((int(batch.shape[2]), int(batch.shape[3])))
        if blocks is None:
            return forward(batch)
        return_freed_memory()
        return block_maps(forward, batch, blocks.rows, blocks.columns, backbone.strides)

    @property
    def blocks(self) -> Blocks | None:
        """How images of the latest size were cut; None where they passed through the backbone whole."""
        return next(reversed(self._plans.values()), None)

    def _plan_blocks(self, image_size: tuple[int, int]) -> Blocks | None:
        """How images of a size are cut: all of them in the same way, however much memory is free meanwhile."""
        config = self.config
        key = (image_size, config.stream, config.memory)
        if key not in self._plans:
            limit = math.inf if config.memory is None else config.memory
            self._plans[key] = plan_blocks(self.build_backbone(), image_size, config.stream, self.budget, limit)
        return self._plans[key]

    def reduce_maps(self, maps: list[Tensor], roi_masks: Tensor | None) -> list[Tensor]:
        """What features keep of the maps of a batch: everything, unless a detector needs less.

        Parameters
        ----------
        maps : list of Tensor (n, C, H_l, W_l)
        roi_masks : Tensor (n, H, W), bool, or None
            The pixels that count.
        """
        return maps

    @property
    def _decodes_ahead(self) -> bool:
        """Whether there is a processor to decode while the network works."""
        return self.build_backbone().device.type != "cpu" or usable_processors() > torch.get_num_threads()

    def batch_within_budget(self, count: int | None) -> int:
        """How many of so many images are in work at once, of the size that is known; an unknown one is no limit."""
        size, most = self._largest_size, self.config.batch_size
        if 1 in (count, most):  # to ask how much memory is free takes half a millisecond
            return 1
        return most if size is None else images_within(self.build_backbone(), size, most, self.budget)

    @property
    def _largest_size(self) -> tuple[int, int] | None:
        """Height and width that images are known to have after the transform, at most."""
        size = self.grid or self.native_size or self.transform.crop or self.transform.resize
        return (size, size) if isinstance(size, int) else size


class NativeTypeExtractor(FeatureExtractor):
    """Gives maps in the type that the network computes in, for a detector that takes few of their channels."""

    accepts_bfloat16 = True
