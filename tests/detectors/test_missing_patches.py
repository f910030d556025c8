"""An estimator that cannot do without patches says which ones can, and these are asked of the registry."""

from __future__ import annotations

import pytest
import torch

from padim_zoo import InputError, PaDiM
from padim_zoo.estimators.estimator import Estimator, estimators_for_missing_patches
from padim_zoo.estimators.linear_shrinkage import Full
from padim_zoo.features.features import Features
from padim_zoo.features.patch_embeddings import PatchEmbeddings
from padim_zoo.gaussians.gaussian import Gaussian
from padim_zoo.registry import estimators
from padim_zoo.statistics.samples import Samples, Statistics


class Blind(Estimator):
    """Asks for no counts of samples."""

    def fit(self, statistics: Statistics) -> Gaussian:
        raise NotImplementedError


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    estimators.names()
    monkeypatch.setattr(estimators, "_entries", dict(estimators._entries))
    estimators.register("blind")(Blind)
    estimators.register("seeing")(type("Seeing", (Full,), {}))


@pytest.mark.usefixtures("_registered")
def test_the_message_lists_the_registered_estimators_that_do() -> None:
    names = estimators_for_missing_patches()
    assert {"full", "ledoit-wolf", "oas", "shrinkage", "diagonal", "spherical", "tied", "seeing"} <= set(names)
    assert "blind" not in names
    roi_masks = torch.ones(3, 8, 8, dtype=torch.bool)
    roi_masks[0, :4] = False
    samples = Samples(PatchEmbeddings.of(Features((torch.rand(3, 5, 2, 2),), (8, 8), roi_masks=roi_masks)))
    with pytest.raises(InputError, match=f"the estimator blind needs every patch .* use {', '.join(names)}, or one"):
        PaDiM(estimator="blind").fit_model(samples)
