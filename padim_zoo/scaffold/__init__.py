"""Packages that a plugin starts from: whole, installable, and with tests that pass."""
