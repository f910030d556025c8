"""What names of folders and files say of the images in them: normal, anomalous, masks. Any case, any Unicode form."""

from __future__ import annotations

import re
import unicodedata

# fmt: off
NORMAL_KINDS = frozenset((
    "good", "ok", "normal", "norm", "io", "gut", "pass", "passed", "defectfree", "faultfree", "nodefect", "nodefects",
))
"""Names of folders of normal images, as :func:`plain` gives them: ``i.O.`` is ``io``, ``no_defect`` ``nodefect``."""

ABNORMAL_KINDS = frozenset((
    "bad", "ko", "ng", "nok", "nio", "notok", "notgood", "fail", "failed", "faulty", "fault", "reject", "rejects",
    "rejected", "abnormal", "anomaly", "anomalies", "anomalous", "defect", "defects", "defective",
))
"""Names of folders of anomalous images. Names of single kinds of defect have no end, and none is here."""
# fmt: on

TEST_FOLDERS = frozenset(("test", "testing"))

MASK_FOLDERS = frozenset(["groundtruth", "gt", "mask", "masks", "label", "labels", "annotation", "annotations"])

MASK_ENDINGS = ("_mask", "_gt", "_label")
"""What follows the stem of an image in the name of its mask, in any case."""


def comparable(name: str) -> str:
    """A name in one case and one Unicode form: macOS decomposes letters with marks, most others do not."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def plain(name: str) -> str:
    """A name of a folder without case, dots, hyphens, underscores and spaces."""
    return re.sub(r"[-_. ]", "", comparable(name))


def is_normal_kind(name: str) -> bool:
    """Whether a folder of this name holds normal images."""
    return plain(name) in NORMAL_KINDS


def is_abnormal_kind(name: str) -> bool:
    """Whether a folder of this name holds anomalous images of no particular kind."""
    return plain(name) in ABNORMAL_KINDS


def is_test_folder(name: str) -> bool:
    """Whether a folder of this name holds the images of a test."""
    return plain(name) in TEST_FOLDERS


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds masks."""
    return plain(name) in MASK_FOLDERS


def image_stem_of_mask(stem: str) -> str | None:
    """The stem of the image that a mask is named after, comparable; None where the name has no ending of a mask."""
    name = comparable(stem)
    return next((name.removesuffix(ending) for ending in MASK_ENDINGS if name.endswith(ending)), None)
