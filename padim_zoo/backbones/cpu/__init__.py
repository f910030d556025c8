"""How networks run fast on a processor."""
