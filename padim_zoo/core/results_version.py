"""The number of the results: which figures this version of the package gives."""

RESULTS_VERSION = 6
"""Part of every run's identity, and of every model: raised when a change of this package changes figures, so that no
old run is reused.

Where it changes features too, so is :attr:`padim_zoo.cache.features.FeatureCache.version`."""
