"""Checks that a plugin keeps the contracts of the package, for the plugin's own tests.

>>> from padim_zoo.plugin import check_backbone
>>> check_backbone("my-backbone")  # doctest: +SKIP

A check tries everything it can, then raises one :class:`ContractError` that says of every violation what was found and
what was expected. It does not judge whether a plugin finds anomalies well: ``padim-zoo bench`` does.
"""

from __future__ import annotations

from padim_zoo.testing.backbone import check_backbone as check_backbone
from padim_zoo.testing.contract import ContractError as ContractError
from padim_zoo.testing.contract import Violation as Violation
from padim_zoo.testing.dataset import check_dataset as check_dataset
from padim_zoo.testing.detector import check_detector as check_detector
from padim_zoo.testing.estimator import check_estimator as check_estimator

__all__ = ["ContractError", "Violation", "check_backbone", "check_dataset", "check_detector", "check_estimator"]
