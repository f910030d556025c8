"""The command ``padim-zoo``."""
