"""The traps of all modules."""

from tests.traps import layouts, learned, marks, pixels
from tests.traps.trap import TRAPS

__all__ = ["TRAPS", "layouts", "learned", "marks", "pixels"]
