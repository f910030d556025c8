"""Backbones of timm: every model that can give feature maps, as ``timm/…``."""
