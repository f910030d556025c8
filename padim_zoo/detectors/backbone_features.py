"""Images to features by a frozen backbone: which views of them pass through it, and what tells features apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.device import resolve_device
from padim_zoo.cache.caches import Caches
from padim_zoo.data.augmentation import ViewSet, canonical_operations
from padim_zoo.data.loading import usable_processors, view_batches
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.detectors.backbone_parameters import BackboneParameters
from padim_zoo.detectors.cached_features import CachedFeatureExtractor
from padim_zoo.features.features import Features

ACTIVATIONS = 6
"""How many times its feature maps a backbone is taken to have in memory: a guess, on the safe side for resnets."""


class BackboneFeatures(BackboneParameters):
    """A detector whose features are the maps of a frozen backbone, all channels of all its layers."""

    accepts_bfloat16: ClassVar[bool] = False
    """Whether what embeds features of a batch takes them in the type of the network, and not in float32 alone."""

    @property
    def features_key(self) -> str:
        """Backbone, weights, precision, layers, transform and views; nothing that is drawn or chosen afterwards."""
        backbone = self.build_backbone()
        layers = ",".join(backbone.layers)
        key = f"{backbone.name} {backbone.weights_hash} {backbone.precision} {layers} {self.transform.to_dict()}"
        return key + self._key_of_views(fit=True) + self._key_of_roi()

    def _key_of_views(self, fit: bool) -> str:
        """What tells views apart; nothing where an image is seen as it is."""
        key = ""
        if fit and self.augment is not None:
            passes = self.views_of_fit().augmentation.passes
            key = f" {canonical_operations('augment', self.augment)} {passes} {self.seed}"
        return key if self.tta is None else f"{key} tta {canonical_operations('tta', self.tta)}"

    def _key_of_roi(self) -> str:
        region = self.region_of_interest()
        return "" if region is None else f" roi {region.fingerprint()}"

    @property
    def cache_key(self) -> str | None:
        """What :attr:`features_key` tells apart, and the device and the code of the network.

        None, so that nothing is kept, where masks of pixels go with the features.
        """
        return self._cache_key(fit=False)

    @property
    def cache_key_of_normal(self) -> str | None:
        """The same of :meth:`extract_normal`."""
        return self._cache_key(fit=True)

    def _cache_key(self, fit: bool) -> str | None:
        if self.roi is not None or any(view.resamples for view in self.views_of_score()):
            return None
        backbone = self.build_backbone()
        key = self.features_key
        if not fit and self.augment is not None:  # the same as without: test images are seen in no pass of a fit
            key = key.replace(self._key_of_views(fit=True), self._key_of_views(fit=False))
        return f"{key} {resolve_device(self.device).type} {backbone.response}"

    def extract(self, images: Any, *, roi: Any = None) -> Features:
        """All channels of the feature maps of ``images``, in all views by which they are scored.

        ``roi`` is as of :meth:`predict`.
        """
        return Features.concatenate(list(self._features(images, roi=roi))).widened()

    def extract_normal(self, images: Any) -> Features:
        """The same of normal images, in all views of a fit and for scoring."""
        if self.augment is None:
            return self.extract(images)
        return Features.concatenate(list(self._features(images, fit=True))).widened()

    def _features(self, images: Any, *, fitted: bool = False, fit: bool = False, roi: Any = None) -> Iterator[Features]:
        backbone = self.build_backbone()
        size = self.batch_size if fitted else self._batch_within_budget(backbone)
        caches = Caches.of(self.cache)
        key = self._cache_key(fit=fit) if caches.features is not None and roi is None else None
        if caches.features is None or key is None:
            for batch, roi_masks, view_set in self._batches(images, size, fit=fit, roi=roi):
                yield from self._computed(batch, roi_masks, view_set.count, size)
            return
        view_set = self._looks(fit)
        recaller = CachedFeatureExtractor(
            caches.features, key, lambda batch: self._computed(batch, None, view_set.count, size)
        )
        at_once, ahead = max(1, size // view_set.count), self._decodes_ahead
        yield from recaller.features(images, self.transform, at_once, view_set, ahead=ahead, resized=caches.images)

    def _computed(self, batch: Tensor, roi_masks: Tensor | None, count: int, size: int) -> Iterator[Features]:
        """Features of ``count`` views of each image, in parts; the backbone gets about ``size`` views at a time."""
        backbone = self.build_backbone()
        height, width = int(batch.shape[2]), int(batch.shape[3])
        # All views of an image stay together; the backbone takes no more of them at once than it wants.
        images_at_once = (backbone.images_at_once(height, width) or size) // count
        together = max(1, images_at_once) * count
        for start in range(0, len(batch), together):
            views = slice(start, start + together)
            some = None if roi_masks is None else roi_masks[views]
            with torch.inference_mode():
                pixels = batch[views].to(backbone.device).float().div_(255)
                if self.accepts_bfloat16:
                    maps = self.kept(backbone.forward_native_dtype(pixels), some)
                else:
                    maps = [layer.float() for layer in self.kept(backbone(pixels), some)]
            yield Features(tuple(layer.cpu() for layer in maps), (height, width), count, some)

    @property
    def _decodes_ahead(self) -> bool:
        """Whether there is a processor to decode while the network works."""
        return self.build_backbone().device.type != "cpu" or usable_processors() > torch.get_num_threads()

    def _looks(self, fit: bool) -> ViewSet:
        """The views of images of a fit, or of others."""
        return self.views_of_fit() if fit else ViewSet(others=self.views_of_score()[1:])

    def _batches(
        self, images: Any, size: int, *, fit: bool, roi: Any
    ) -> Iterator[tuple[Tensor, Tensor | None, ViewSet]]:
        """Views of images, with the pixels that count; about ``size`` views at a time."""
        view_set = self._looks(fit)
        own = self.region_of_interest()
        region = own if roi is None else RegionOfInterest(roi)
        if own is not None and roi is not None and own.common:
            region = RegionOfInterest.both(own, RegionOfInterest(roi))
        at_once, kept = max(1, size // view_set.count), Caches.of(self.cache).images
        ahead = self._decodes_ahead
        for batch, roi_masks in view_batches(
            images, self.transform, at_once, view_set, roi=region, ahead=ahead, cache=kept
        ):
            yield batch, roi_masks, view_set

    def kept(self, maps: list[Tensor], roi_masks: Tensor | None) -> list[Tensor]:
        """What features keep of the maps of a batch: everything, unless a detector needs less.

        Parameters
        ----------
        maps : list of Tensor (n, C, H_l, W_l)
        roi_masks : Tensor (n, H, W), bool, or None
            The pixels that count.
        """
        return maps

    def _batch_within_budget(self, backbone: Backbone) -> int:
        """How many images of a fit pass through the backbone at once; a size that only the images tell is no limit."""
        size = self.crop or self.resize
        if size is None:
            return self.batch_size
        height, width = (size, size) if isinstance(size, int) else size
        positions = (math.ceil(height / stride) * math.ceil(width / stride) for stride in backbone.strides)
        numbers = sum(channels * count for channels, count in zip(backbone.channels, positions, strict=True))
        return max(1, min(self.batch_size, self._budget() // 2 // (4 * ACTIVATIONS * numbers)))
