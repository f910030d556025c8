"""anomalib's models as detectors of the zoo: ``anomalib/Padim``, ``anomalib/Patchcore`` …

Registered one by one, since each has its own layers and arguments; none imports anomalib before it is fitted.
"""

from __future__ import annotations

from padim_zoo.plugin import detectors
from padim_zoo_anomalib.backbone_model_detector import AnomalibBackboneDetector as AnomalibBackboneDetector
from padim_zoo_anomalib.backbone_model_detector import AnomalibPadim as AnomalibPadim
from padim_zoo_anomalib.catalog import CATALOG, Known
from padim_zoo_anomalib.model_detector import AnomalibDetector as AnomalibDetector


def _register(name: str, known: Known) -> None:
    kind: type[AnomalibDetector] = AnomalibDetector if known.layers is None else AnomalibBackboneDetector
    if name == "Padim":
        kind = AnomalibPadim
    full_name = f"anomalib/{name}"
    body = {"model_name": name, "known": known, "__doc__": kind.__doc__, "__module__": __name__}
    body["name"] = full_name
    summary = known.summary if known.one_pass else f"{known.summary}; trained, give max_epochs"
    detectors.register(full_name, summary=summary)(type(f"Anomalib{name}", (kind,), body))


for _name, _known in CATALOG.items():
    _register(_name, _known)
