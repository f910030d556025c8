"""A detector in a file of its own: the distance to the k nearest normal images at each position of the first layer."""

from dataclasses import dataclass

import torch
from torch import nn

from padim_zoo.plugin import (
    AnomalyMaps,
    BackboneDetector,
    MapConfig,
    PatchEmbeddings,
    Prediction,
    anomaly_maps,
    check_whole_number,
    detectors,
    embeddings_of,
    numbered,
)


@dataclass(kw_only=True)
class ToyConfig(MapConfig):
    k: int = 2


@detectors.register("toy-nearest", summary="Distance to the k nearest normal images at each position")
class ToyNearest(BackboneDetector, ToyConfig):
    name = "toy-nearest"
    scoring = frozenset({"sigma", "k"})

    def check_parameters(self):
        super().check_parameters()
        check_whole_number("k", self.k, 1)

    def embed(self, features):
        return PatchEmbeddings.of(features.with_maps(features.maps[:1]))

    def fit_model(self, statistics):
        return statistics.embeddings

    def score_embeddings(self, model, embeddings):
        distances = nearest_distances(embeddings[:], model[:], self.k)
        maps = anomaly_maps(distances.T.reshape(-1, *embeddings.grid), self.image_size_, self.sigma)
        return Prediction.from_maps(maps, threshold=self.threshold_, roi_masks=embeddings.roi_masks)

    def model_arrays(self, *, resumable, half):
        return numbered("normal", self.model_), {"grids": self.model_.grids}

    def restore(self, file):
        return embeddings_of(file.arrays("normal."), file.header["grids"])

    def scoring_network(self):
        to_maps = AnomalyMaps(self.model_.grid, self.image_size_, self.sigma)
        return ToyNetwork(self.model_[:], min(self.k, self.model_.n), self.model_.grid, to_maps)


class ToyNetwork(nn.Module):
    def __init__(self, normal, k, grid, to_maps):
        super().__init__()
        self.k, self.grid, self.to_maps = k, grid, to_maps
        self.register_buffer("normal", normal)

    def forward(self, maps, images):
        patches = maps[0].flatten(2).permute(2, 0, 1)
        distances = nearest_distances(patches, self.normal, self.k)
        anomaly_maps = self.to_maps(distances.T.reshape(-1, *self.grid))
        return anomaly_maps.amax((1, 2)), anomaly_maps


def nearest_distances(patches, normal, k):
    """Mean distances (P, N) of patches (P, N, D) to their k nearest of (P, n, D)."""
    distances = (patches[:, :, None] - normal[:, None]).square().sum(3).sqrt()
    return torch.topk(distances, min(k, distances.shape[2]), dim=2, largest=False).values.mean(2)
