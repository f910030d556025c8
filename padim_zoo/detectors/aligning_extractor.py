"""Features of images that are brought to the mean pose of the part first."""

from __future__ import annotations

from padim_zoo.detectors.config import PaDiMConfig
from padim_zoo.detectors.feature_extractor import NativeTypeExtractor


class AligningExtractor(NativeTypeExtractor):
    """Moves images to the pose that ``register`` asks for."""

    config: PaDiMConfig

    def features_key(self, *, fit: bool = True) -> str:
        """As of all, and the motions that are undone."""
        key = super().features_key(fit=fit)
        return key if self.config.register is None else f"{key} register {self.config.register}"

    def cache_key(self, *, fit: bool) -> str | None:
        """Nothing is kept of images that are moved, for that depends on the other images of the fit."""
        return None if self.config.register is not None else super().cache_key(fit=fit)
