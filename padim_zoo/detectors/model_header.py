"""The JSON document in the header of a detector file, read without torch.

It has two blocks. *content* is all that scoring takes: detector, parameters, the version of the results, and every
array with its type, shape and hash; it depends on nothing else, so its digest is the identity of the model.
*provenance* says what wrote it, when, by which command and from which images. A digest of both is compared at every
load.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import padim_zoo
from padim_zoo.core.errors import InputError
from padim_zoo.core.fields import FieldError, Fields, read_json
from padim_zoo.core.printable import encodable
from padim_zoo.core.provenance import provenance
from padim_zoo.core.results_version import RESULTS_VERSION

FORMAT = 6
KEY, DIGEST = "padim_zoo", "digest"
"""Under which the metadata of safetensors hold the document and its digest."""


def to_metadata(
    header: Mapping[str, Any], arrays: Mapping[str, Any], before: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The metadata of a file, from what a detector says of itself and the type, shape and hash of each array.

    ``before`` is the provenance of the file that it was made of, if any: its data, and how it was fitted, are kept.
    """
    document = {
        "content": {"format": FORMAT, "results_version": RESULTS_VERSION, "arrays": arrays, **header},
        "provenance": {
            **({} if before is None else _of_fit(before)),
            "version": padim_zoo.__version__,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **{name: encodable(text) for name, text in provenance().items()},
        },
    }
    text = json.dumps(document, sort_keys=True, default=_plain, allow_nan=False)
    return {KEY: text, DIGEST: digest_of(text)}


def _of_fit(before: Mapping[str, str]) -> dict[str, str]:
    """The data and processors of a fit and, under ``fit``, its command, or when it was."""
    fitted = before.get("fit", before.get("command", f"version {before.get('version')}, {before.get('date')}"))
    return {"fit": fitted, **{name: before[name] for name in ("data", "processors") if name in before}}


def digest_of(text: str) -> str:
    """The digest of a document."""
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(number: Any) -> Any:
    """A parameter that is a number of NumPy's, as JSON knows it."""
    return number.item()


def read_header(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content and the provenance in the metadata of a file, compared with their digest.

    Raises
    ------
    InputError
        If they are damaged, or of another format.
    """
    try:
        document = read_json(metadata[KEY])
        content = document["content"] if isinstance(document, dict) and "content" in document else document
        number = Fields(content).whole("format")
    except FieldError:
        raise InputError(f"{path} has a header without a format: expected a model that padim-zoo fit wrote") from None
    if number > FORMAT:
        raise InputError(f"{path} has format {number}, this version reads up to {FORMAT}: upgrade padim-zoo")
    if number < FORMAT:
        raise InputError(f"{path} has format {number}, of an older version of padim-zoo: fit it again")
    if metadata.get(DIGEST) != digest_of(metadata[KEY]):
        raise InputError(f"{path} is damaged: its header is not what was saved; fit it again")
    told = document.get("provenance")
    if (
        not isinstance(content.get("detector"), str)
        or not isinstance(content.get("arrays"), dict)
        or not isinstance(told, dict)
    ):
        raise InputError(f"{path} does not say what it holds: it is of another version of padim-zoo; fit it again")
    return content, {name: text for name, text in told.items() if isinstance(text, str)}
