"""The traps of all modules."""

from traps import layouts, learned, marks, pixels
from traps.trap import TRAPS

__all__ = ["TRAPS", "layouts", "learned", "marks", "pixels"]
