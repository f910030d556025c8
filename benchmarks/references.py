"""What the stages are measured beside: the same work done plainly by torch, NumPy, Pillow and scikit-learn.

Nothing here calls padim-zoo, so that whatever becomes slower there shows in the ratio. A reference does about what its
stage does, by the same libraries, so that another processor, and other work on the machine, change both alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchvision.models import resnet18

EPSILON = 0.01
BLOCK = 64
"""Patches at a time, so that their covariances fit a processor's cache."""


class BareNetwork:
    """A resnet18 as torchvision makes it, with random weights, cut behind its third layer.

    Parameters
    ----------
    dtype : torch.dtype
        Of weights and images.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        whole = resnet18().eval()
        self._stem = torch.nn.Sequential(whole.conv1, whole.bn1, whole.relu, whole.maxpool)
        self._layers = [whole.layer1, whole.layer2, whole.layer3]
        self._dtype = dtype
        for part in (self._stem, *self._layers):
            part.to(dtype=dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> list[Tensor]:
        """Feature maps of uint8 images (N, H, W, 3)."""
        values = torch.from_numpy(images).permute(0, 3, 1, 2).to(self._dtype).div_(255).sub_(0.45).div_(0.225)
        maps = [self._stem(values.contiguous(memory_format=torch.channels_last))]
        for layer in self._layers:
            maps.append(layer(maps[-1]))
        return [found.float() for found in maps[1:]]


def decode(files: Sequence[Path], size: int) -> np.ndarray:
    """Images (N, size, size, 3), uint8."""
    return np.stack([np.asarray(Image.open(path).convert("RGB").resize((size, size))) for path in files])


def embed(maps: Sequence[Tensor], channels: Tensor) -> Tensor:
    """Embeddings (P, N, D) of chosen channels, on the first layer's grid."""
    grid = maps[0].shape[2:]
    together = torch.cat([torch.nn.functional.interpolate(layer, grid) for layer in maps], 1)
    return together[:, channels].flatten(2).permute(2, 0, 1).contiguous()


def factors(embeddings: Tensor) -> Tensor:
    """F with F Fᵀ = (Σ + εI)⁻¹ of each patch, (P, D, D), from embeddings (P, N, D)."""
    identity = torch.eye(embeddings.shape[2])
    found = []
    for block in torch.split(embeddings, BLOCK):
        centered = block - block.mean(1, keepdim=True)
        covariance = centered.mT @ centered / (block.shape[1] - 1) + EPSILON * identity
        found.append(torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), identity, upper=False).mT)
    return torch.cat(found)


def squared_distances(embeddings: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Squared Mahalanobis distances (P, N) of embeddings (P, N, D) from means (P, 1, D)."""
    return torch.bmm(embeddings - mean, factor).square().sum(2)


def enlarge_and_blur(distances: Tensor, size: int, sigma: float) -> np.ndarray:
    """Anomaly maps (N, size, size) of distances (N, h, w)."""
    maps = torch.nn.functional.interpolate(distances[:, None], (size, size), mode="bilinear")
    return np.stack([gaussian_filter(one, sigma) for one in maps[:, 0].numpy()])


def one_job(network: BareNetwork, normal: Sequence[Path], test: Sequence[Path], size: int, n_components: int) -> float:
    """Decode, extract, fit, score, blur and judge: the whole of one PaDiM, with the image AUROC of made-up labels."""
    channels = torch.arange(n_components)
    embeddings = embed(network(decode(normal, size)), channels)
    mean, factor = embeddings.mean(1, keepdim=True), factors(embeddings)
    distances = squared_distances(embed(network(decode(test, size)), channels), mean, factor).sqrt()
    side = round(len(distances) ** 0.5)
    blurred = enlarge_and_blur(distances.T.reshape(-1, side, side), size, 4)
    return float(roc_auc_score(np.arange(len(test)) % 2, blurred.max((1, 2))))


def bootstrap(labels: np.ndarray, scores: np.ndarray, replicates: int) -> np.ndarray:
    """AUROC of images that are drawn with replacement, (replicates,)."""
    draws = np.random.default_rng(0).integers(len(labels), size=(replicates, len(labels)))
    return np.array([roc_auc_score(labels[draw], scores[draw]) for draw in draws])


def aupimo_by_thresholds(
    maps: np.ndarray, masks: Sequence[np.ndarray], n_normal: int, bounds: tuple[float, float]
) -> np.ndarray:
    """AUPIMO of each image (N,) but the normal ones, which come first: one threshold after the other."""
    normal = maps[:n_normal].ravel()
    low, high = bounds
    levels = np.unique(np.partition(normal, len(normal) - int(high * len(normal)) - 1)[-int(high * len(normal)) - 1 :])
    defects = [one[mask] for one, mask in zip(maps[n_normal:], masks[n_normal:], strict=True)]
    areas, last = np.zeros(len(defects)), high
    # Between the rates of two levels all scores above the lower one are found.
    for level in levels:
        above = min(max(float((normal > level).mean()), low), high)
        areas += np.array([(one > level).mean() for one in defects]) * np.log(last / above)
        last = above
        if above == low:
            break
    return np.concatenate([np.full(n_normal, np.nan), areas / np.log(high / low)])


def marked_pixels(
    maps: np.ndarray, masks: Sequence[np.ndarray], regions: Sequence[np.ndarray], n_normal: int
) -> tuple[float, float, float]:
    """F1 and false positive rate of pixels, and the share of regions found, at 99.9 % of the pixels of normal images.

    ``regions`` are the masks with their regions numbered.
    """
    truth = np.stack(masks)
    marked = maps > np.quantile(maps[:n_normal], 0.999).astype(maps.dtype)
    f1 = 2 * (marked & truth).sum() / (marked.sum() + truth.sum())
    found = [
        np.unique(one[one > 0])[:, None] == one[(one > 0) & above] for one, above in zip(regions, marked, strict=True)
    ]
    share = np.concatenate([one.any(axis=1) for one in found]).mean()
    return float(f1), float(marked[~truth].mean()), float(share)
