"""Models that other programs fitted, as detectors of this one."""

from __future__ import annotations

from padim_zoo.importers.imported_model import ImportedModel as ImportedModel
from padim_zoo.importers.read import read_model as read_model
