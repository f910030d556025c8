"""Write ``padim_zoo/registry/catalog.json``: the names that the package registers, and what listings say of them.

    python tools/write_catalog.py            write the file
    python tools/write_catalog.py --check    exit with 1 if the file is not what would be written

To be run without plugins, after a name was added or its summary changed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from padim_zoo import registry
from padim_zoo.backbones.torchvision import RESNETS
from padim_zoo.cli.list import describe
from padim_zoo.core.jsonable import to_jsonable
from padim_zoo.registry.signature import Signature

TAKE_ARGUMENTS = ("detector", "estimator")
"""Kinds whose specs have arguments that can be told from their factories."""

FILE = Path(registry.__file__).with_name("catalog.json")


def make_catalog() -> dict[str, Any]:
    """All kinds; where weights may be in the cache of torch.hub, the file that they would be in."""
    catalog: dict[str, Any] = {}
    for names in registry.REGISTRIES.values():
        records = describe([names.entry(name) for name in names.names()], in_full=True)
        for record in records:
            if record["name"] in RESNETS and "weights_offline" in record:
                record["weights_offline"] = RESNETS[record["name"]][1]
        families = {family.prefix: family.summary for family in names.families()}
        catalog[names.kind] = {"records": {record["name"]: record for record in records}, "families": families}
        takers = names.names() if names.kind in TAKE_ARGUMENTS else ()
        signatures = {name: Signature.of(names.entry(name).factory) for name in takers}
        catalog[names.kind]["signatures"] = {name: asdict(signature) for name, signature in signatures.items()}
    return catalog


def main() -> int:
    """Write or compare; the exit code."""
    text = json.dumps(to_jsonable(make_catalog()), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        return int(not FILE.exists() or FILE.read_text(encoding="utf-8") != text)
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
