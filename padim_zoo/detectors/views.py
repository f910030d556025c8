"""Which views of an image a detector sees: what ``augment``, ``passes`` and ``tta`` stand for."""

from __future__ import annotations

from dataclasses import dataclass

from padim_zoo.core.errors import InputError
from padim_zoo.data.augmentation import AS_IT_IS, Augmentation, ViewSet, parse_operations, views_for_scoring
from padim_zoo.detectors.config import PASSES, BackboneConfig, check_whole_number


@dataclass(frozen=True)
class Views:
    """The views of normal images and of others.

    Attributes
    ----------
    of_fit : ViewSet
        Of normal images: those of the passes, then those for scoring beyond the first.
    of_score : ViewSet
        By which an image is scored: as it is, and those of ``tta``.
    tta : str
        One spelling for equal operations; empty without any.
    """

    of_fit: ViewSet = AS_IT_IS
    of_score: ViewSet = AS_IT_IS
    tta: str = ""

    @classmethod
    def of(cls, config: BackboneConfig) -> Views:
        """What the parameters stand for.

        Raises
        ------
        InputError
            If ``augment``, ``passes`` or ``tta`` cannot be read.
        """
        of_score, tta = AS_IT_IS, ""
        if config.tta is not None:
            operations = parse_operations("tta", config.tta)
            of_score, tta = ViewSet(others=views_for_scoring(operations)[1:]), ",".join(map(str, operations))
        if config.augment is None:
            if config.passes is not None:
                raise InputError(f"passes is {config.passes!r} without augment: say what to change, e.g. flip")
            return cls(of_score, of_score, tta)
        count = PASSES if config.passes is None else config.passes
        check_whole_number("passes", count, 2)
        augmentation = Augmentation(parse_operations("augment", config.augment), count, config.seed)
        return cls(ViewSet(augmentation, of_score.others), of_score, tta)

    @property
    def passes(self) -> int:
        """How often a fit sees each normal image: so many samples are of one."""
        return self.of_fit.augmentation.passes

    def key(self, fit: bool) -> str:
        """What tells views apart; nothing where an image is seen as it is.

        Parameters
        ----------
        fit : bool
            Of normal images; otherwise of images to score, which are seen in no pass of a fit.
        """
        augmentation, key = self.of_fit.augmentation, ""
        if fit and augmentation.operations:
            key = f" {','.join(map(str, augmentation.operations))} {augmentation.passes} {augmentation.seed}"
        return f"{key} tta {self.tta}" if self.tta else key
