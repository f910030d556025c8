"""Images to the features of a frozen backbone: which views of them pass through it, and what tells features apart."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import resolve_device
from padim_zoo.backbones.weight_provenance import images_adapted_to
from padim_zoo.cache.caches import Caches
from padim_zoo.core.cpu import usable_processors
from padim_zoo.core.errors import InputError
from padim_zoo.core.moving import HOST
from padim_zoo.core.parallel import one_thread_for
from padim_zoo.data.augmentation import ViewSet
from padim_zoo.data.bit_depth import FULL_DEPTH, check_depth
from padim_zoo.data.coverage import other_aspects
from padim_zoo.data.grid import canvas_of, known_sizes, look_ahead, refuse_several_sizes
from padim_zoo.data.loading import view_batches
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.sources import count_of, listed
from padim_zoo.data.training_depth import depth_to_assume
from padim_zoo.data.transform import Transform, choose_grid, count_other_aspects
from padim_zoo.detectors.backbone_in_use import BackboneInUse
from padim_zoo.detectors.block_plans import BlockPlans, batch_within, budget_of
from padim_zoo.detectors.cached_features import CachedFeatures
from padim_zoo.detectors.config import LARGEST_SEED, BackboneConfig, check_whole_number
from padim_zoo.detectors.image_facts import ImageFacts, describe_depth
from padim_zoo.detectors.views import Views
from padim_zoo.features.features import Features
from padim_zoo.features.tiles import TileLayout, Tiles, layout_of
from padim_zoo.runtimes.runtime import AUTO, TORCH, resolve_runtime
from padim_zoo.statistics.accumulator import pixels


class FeatureExtractor:
    """Backbone, transform, views, region of interest and cache of a detector: images in, features out.

    Features are the maps of the backbone, all channels of all its layers.

    Parameters
    ----------
    config : BackboneConfig
        The parameters of the detector. It renews them whenever it takes the extractor to hand.

    Attributes
    ----------
    in_use : BackboneInUse
        The backbone, see :meth:`build_backbone`; one for all copies.
    grid : (int, int) or None
        Height and width in pixels that images are resized to, where the parameters leave that to the images: those of
        the fit, or of :meth:`on_grid_of`.
    shared_stride : int or None
        The coarsest stride of all members of an ensemble, which have one grid.
    facts : ImageFacts
        What the normal images of the fit have told of images, see :meth:`look_at`.
    native_size : (int, int) or None
        Height and width of the largest image of a fit, where images are not resized: see :meth:`on_grid_of`.
    takes_sizes : bool
        Whether images may differ in size.
    one_size_options : tuple of str
        The options given that do not allow that, of a detector that does.
    canvas : (int, int) or None
        Height and width that images of several sizes lie on, in its top left corner. Each passes through the backbone
        in its own size, and is embedded and scored in that.
    """

    accepts_bfloat16: ClassVar[bool] = False
    """Whether maps are left in the type of the network, and not always brought to float32."""

    def __init__(self, config: BackboneConfig) -> None:
        self.config = config
        self.in_use = BackboneInUse()
        self.facts = ImageFacts()
        self.grid: tuple[int, int] | None = None
        self.shared_stride: int | None = None
        self.native_size: tuple[int, int] | None = None
        self.takes_sizes = False
        self.one_size_options: tuple[str, ...] = ()
        self.canvas: tuple[int, int] | None = None
        self.plans = BlockPlans()
        self._region: tuple[Any, RegionOfInterest] | None = None

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
        if config.tiles is not None:
            Tiles.parse(config.tiles)
        resolve_runtime(config.runtime)
        if not isinstance(config.cache, (bool, Caches)):
            raise InputError(
                f"cache is {config.cache!r}: expected True or False; the environment variable PADIM_ZOO_CACHE names "
                "the folder"
            )
        if isinstance(config.layers, str):
            raise InputError(f"layers is {config.layers!r}: expected a sequence of names, e.g. ({config.layers!r},)")
        self.transform  # noqa: B018  checks resize, crop and bit depth
        self.views  # noqa: B018  checks augment, passes and tta
        self.region_of_interest()

    @property
    def transform(self) -> Transform:
        """What happens to an image before the backbone."""
        config = self.config
        return Transform(resize=config.resize, crop=config.crop, bit_depth=self.bit_depth).on_grid(self.grid)

    def tile_layout(self, image_size: tuple[int, int]) -> TileLayout | None:
        """The tiles of transformed images of a size; None where each image is one.

        Raises
        ------
        InputError
            If such images cannot be cut so.
        """
        return None if self.config.tiles is None else layout_of(self.config.tiles, image_size)

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
            return extractor.on_canvas_of(images), images
        if sizes:
            extractor.grid = choose_grid(sizes, asked.resize, stride)
            others = count_other_aspects(sizes, extractor.grid, stride)
            if others:
                warnings.warn(other_aspects(others, len(sizes), extractor.transform), stacklevel=5)
        return extractor, images

    def on_canvas_of(self, images: Any, of_fit: tuple[int, int] | None = None) -> FeatureExtractor:
        """One whose canvas has room for some images, where these may differ in size and are known to.

        Parameters
        ----------
        images
        of_fit : (int, int), optional
            The size of the images of the fit, or their canvas.

        Raises
        ------
        InputError
            If images to fit differ in size, and the detector or an option does not allow that.
        """
        if of_fit is None and not self.takes_sizes and self.config.resize is None and self.config.crop is None:
            refuse_several_sizes(images, self.one_size_options)
        canvas = canvas_of(known_sizes(images), self.stride, of_fit) if self.takes_sizes else None
        if canvas is None or self.canvas is not None:
            return self
        extractor = copy.copy(self)
        extractor.canvas = canvas
        return extractor

    @property
    def bit_depth(self) -> int:
        """Bits that samples of more than 8 bits use."""
        return check_depth(self.config.bit_depth) or self.facts.bit_depth or FULL_DEPTH

    def look_at(self, images: Any) -> None:
        """Find out what only the normal images of a fit can tell: here, the bit depth.

        Raises
        ------
        InputError
            If the bit depth that is asked for does not hold their samples.
        """
        depth = depth_to_assume(images, check_depth(self.config.bit_depth)) or self.facts.bit_depth
        self.facts = replace(self.facts, bit_depth=depth)

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Within it an error takes back what normal images have told."""
        before = self.facts
        try:
            yield
        except BaseException:
            self.facts = before
            raise

    def describe_images(self) -> dict[str, str]:
        """The bit depth in words, where it is not that of the files, and the tiles, where there are any."""
        layout = None if self.grid is None else self.tile_layout(self.grid)
        return describe_depth(self.bit_depth) | ({} if layout is None else {"tiles": str(layout)})

    @property
    def budget(self) -> int:
        """Bytes that a fit may take beside the backbone."""
        return budget_of(self.config)

    @property
    def views(self) -> Views:
        """The views of images, by the parameters as they are now."""
        return Views.of(self.config)

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
        """The backbone, made at first use; see :meth:`~padim_zoo.detectors.backbone_in_use.BackboneInUse.make`."""
        if self.in_use.backbone is not None:
            return self.in_use.backbone
        name = self.config.backbone
        layers = self.config.layers or (self.layers_wanted(name) if isinstance(name, str) else None)
        return self.in_use.make(self.config, layers)

    @property
    def adapted_to(self) -> frozenset[str]:
        """The hashes of the images that the backbone's weights were adapted to, so far as these say it."""
        if self.in_use.adapted_to is None:
            self.in_use.adapted_to = images_adapted_to(self.build_backbone().weights_source)
        return self.in_use.adapted_to

    def expect(self, images: int | None, at_once: int | None = None) -> None:
        """Decide which runtime is the fastest for so many images, if that is left open and their size is known.

        In 16 bits another runtime moves scores by a percent: there torch stays unless ``"auto"`` is asked for.

        Parameters
        ----------
        images : int or None
            None where nobody knows.
        at_once : int, optional
            How many come at once, if not ``batch_size``. What was decided for others is then decided anew.
        """
        for name, value, least in (("images", images, 0), ("at_once", at_once, 1)):
            if value is not None:
                check_whole_number(name, value, least)
        if images is None or resolve_runtime(self.config.runtime) != AUTO:
            return
        in_16_bits = self.build_backbone().precision != "float32"
        if in_16_bits and resolve_runtime(self.config.runtime, TORCH) != AUTO:
            return
        size, views = self._largest_size, self.views.of_score.count
        together = max(self.config.batch_size, views) if at_once is None else at_once * views
        if size is not None and (layout := self.tile_layout(size)) is not None:
            images, together, size = images * len(layout), together * len(layout), layout.tile_size
        self.in_use.decide_runtime(images, size, alone=together == 1, anew=at_once is not None)

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
        key += "" if self.config.tiles is None else f" tiles {Tiles.parse(self.config.tiles)}"
        return key + self.views_key(fit)

    def views_key(self, fit: bool) -> str:
        """What tells views and regions apart; nothing where an image is seen whole and as it is."""
        key, region = self.views.key(fit), self.region_of_interest()
        return key if region is None else f"{key} roi {region.fingerprint()}"

    def cache_key(self, *, fit: bool) -> str | None:
        """What :meth:`features_key` tells apart, and the device and the code of the network.

        None, so that nothing is kept, where masks of pixels go with the features, or the grid is not known yet.
        """
        if self.transform.leaves_grid or self.canvas is not None:
            return None
        if self.config.roi is not None or any(view.resamples for view in self.views.of_score.others):
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
        device: torch.device = HOST,
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
        device : torch.device
            Where the maps are wanted: in main memory, or on the device of the backbone, which they need not leave then.
        """
        count = count_of(images)
        self.expect(count)
        size = self.batch_within_budget(count) if in_work is None else in_work
        view_set = self.views.of_fit if fit else self.views.of_score
        caches = Caches.of(self.config.cache)
        key = None if caches.features is None or roi is not None else self.cache_key(fit=fit)
        if caches.features is None or key is None:
            for batch, roi_masks in self.image_batches(images, size, view_set, roi):
                if check_size is not None:
                    check_size(self.canvas or self._size_of(batch))
                for features in self._compute(batch, roi_masks, view_set.count, size):
                    yield self._on_canvas(features.to(device))
            return
        stored = CachedFeatures(caches.features, key)
        at_once, ahead = max(1, size // view_set.count), self._decodes_ahead
        parts = stored.batches(
            images, self.transform, at_once, view_set, ahead=ahead, resized=caches.images, pinned=self._pins
        )
        for part in parts:
            if part.pixels is not None and check_size is not None:
                check_size((int(part.pixels.shape[2]), int(part.pixels.shape[3])))
            computed = iter(()) if part.pixels is None else self._compute(part.pixels, None, view_set.count, size)
            missing = (features.to(HOST) for features in computed)
            yield from (features.to(device) for features in stored.complete(part, missing))

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
            images,
            replace(self.transform, finer=self._finer),
            at_once,
            view_set,
            roi=region,
            ahead=self._decodes_ahead,
            cache=resized,
            several_sizes=self.canvas is not None,
            pinned=self._pins,
        )

    @property
    def _finer(self) -> int:
        """Pixels along a side of images to be moved, for each of the transform."""
        return 1 if self.facts.registration is None else self.facts.registration.finer

    def _size_of(self, batch: Tensor) -> tuple[int, int]:
        """Height and width after the transform, of images that :meth:`image_batches` gave."""
        return int(batch.shape[2]) // self._finer, int(batch.shape[3]) // self._finer

    def _on_canvas(self, features: Features) -> Features:
        """Features of images of one size on the canvas of all, if there is one."""
        if self.canvas is None:
            return features
        if any(own > side for own, side in zip(features.image_size, self.canvas, strict=True)):
            raise InputError(
                f"an image of {pixels(features.image_size)} is larger than those whose size was known before, up to "
                f"{pixels(self.canvas)}: give files, or a list of arrays"
            )
        return features.on_canvas(self.canvas, self.build_backbone().strides)

    def _compute(self, batch: Tensor, roi_masks: Tensor | None, count: int, size: int) -> Iterator[Features]:
        """Features of ``count`` views of each image, in parts; the backbone gets about ``size`` views at a time."""
        backbone = self.build_backbone()
        height, width = self._size_of(batch)
        poses = None if self.facts.registration is None else self.facts.registration.poses(batch)
        batch = batch if poses is None else poses.to_mean(batch, (height, width))
        # All views of an image stay together; the backbone takes no more of them at once than it wants.
        images_at_once = (backbone.images_at_once(int(batch.shape[2]), int(batch.shape[3])) or size) // count
        together = max(1, images_at_once) * count
        layout = self.tile_layout((height, width))
        roi_masks = roi_masks if roi_masks is None or layout is None else layout.mosaic(roi_masks)
        for start in range(0, len(batch), together):
            views = slice(start, start + together)
            masks = None if roi_masks is None else roi_masks[views]
            own = None if poses is None else poses.images(views)
            # No name here holds them while they are worked on, or while the next images pass through the backbone.
            yield Features(self._maps_to_keep(batch[views], masks, layout), (height, width), count, masks, own)

    @torch.inference_mode()
    def _maps_to_keep(self, images: Tensor, roi_masks: Tensor | None, layout: TileLayout | None) -> tuple[Tensor, ...]:
        """What features keep of the maps of images (n, 3, H, W), uint8, or of their tiles."""
        backbone = self.build_backbone()
        maps = self._maps(backbone, images) if layout is None else self._mosaics(backbone, images, layout)
        if not self.accepts_bfloat16:  # before they are reduced: averages would be rounded to 8 bits
            maps = [layer.float() for layer in maps]
        return tuple(self.reduce_maps(maps, roi_masks))

    def _mosaics(self, backbone: Backbone, batch: Tensor, layout: TileLayout) -> list[Tensor]:
        """The maps of the tiles of images (n, 3, H, W), uint8, side by side: each tile is an image of its own."""
        tiles = layout.cut(batch)
        at_once = backbone.images_at_once(*layout.tile_size) or len(tiles)
        mosaics: list[Tensor] = []
        for first in range(0, len(tiles), at_once):
            for number, layer in enumerate(self._maps(backbone, tiles[first : first + at_once])):
                if number == len(mosaics):
                    mosaics.append(layout.empty(len(batch), layer))
                layout.place(mosaics[number], layer, first)
        return mosaics

    def _maps(self, backbone: Backbone, batch: Tensor) -> list[Tensor]:
        """The maps of images (n, 3, H, W), uint8, which pass through the backbone whole or in blocks."""

        def pixels_of(part: Tensor) -> Tensor:
            pixels = part.to(backbone.device, non_blocking=True)  # from pinned memory, while other work goes on
            # Blocks of images that were moved, which are floats, overlap: nothing is changed in place.
            if pixels.is_floating_point():
                return pixels / 255
            with one_thread_for(pixels.numel()):
                return pixels.to(torch.float32, memory_format=backbone.memory_format).div_(255)

        plan = self.plans.plan(self.config, backbone, (int(batch.shape[2]), int(batch.shape[3])))
        if plan is not None:
            return plan.maps(backbone, pixels_of, batch)
        return backbone.forward_native_dtype(pixels_of(batch))

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

    @property
    def _pins(self) -> bool:
        """Whether images go to a device that copies from pinned memory alone while other work goes on."""
        return self.build_backbone().device.type == "cuda"

    def batch_within_budget(self, count: int | None) -> int:
        """How many of so many images are in work at once, of the size that is known; an unknown one is no limit."""
        size, most = self._largest_size, self.config.batch_size
        if 1 in (count, most):  # to ask how much memory is free takes half a millisecond
            return 1
        return most if size is None else batch_within(self.config, self.build_backbone(), size)

    @property
    def _largest_size(self) -> tuple[int, int] | None:
        """Height and width that images are known to have after the transform, at most."""
        size = self.canvas or self.grid or self.native_size or self.transform.crop or self.transform.resize
        return (size, size) if isinstance(size, int) else size


class NativeTypeExtractor(FeatureExtractor):
    """Gives maps in the type that the network computes in, for a detector that takes few of their channels."""

    accepts_bfloat16 = True
