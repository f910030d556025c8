"""Features of images that are brought to the mean pose of the part first."""

from __future__ import annotations

from typing import Any

from padim_zoo.detectors.config import PaDiMConfig
from padim_zoo.detectors.feature_extractor import NativeTypeExtractor


class AligningExtractor(NativeTypeExtractor):
    """Knows the poses that ``register`` asks for.

    Attributes
    ----------
    registration_note : str
        Why images are not moved as ``register`` asks.
    """

    config: PaDiMConfig
    registration_note: str = ""

    @property
    def learned(self) -> dict[str, Any]:
        """The bit depth and the registration."""
        return {**super().learned, "registration": self.registration, "registration_note": self.registration_note}

    def forget(self) -> None:
        """Drop what normal images have told."""
        super().forget()
        self.registration_note = ""

    def features_key(self, *, fit: bool = True) -> str:
        """As of all, and the motions that are undone."""
        key = super().features_key(fit=fit)
        return key if self.config.register is None else f"{key} register {self.config.register}"

    def cache_key(self, *, fit: bool) -> str | None:
        """Nothing is kept of images that are moved, for that depends on the other images of the fit."""
        return None if self.config.register is not None else super().cache_key(fit=fit)
