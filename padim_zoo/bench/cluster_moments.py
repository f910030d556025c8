"""A fit on a cluster by moments: memory does not grow with the number of images there, and here by kilobytes of each.

The first pass adds up the moments of each fold, in chunks that are joined in a fixed tree. Those of all images make the
model, and those of all folds but one the model of a fold. The second pass scores the images of each fold by its model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as of_arrays

from padim_zoo.bench.cluster_chunks import ChunkRunner, chunk_count
from padim_zoo.bench.executors.cluster import Note
from padim_zoo.core.errors import InputError
from padim_zoo.core.memory import amount
from padim_zoo.core.progress import stage
from padim_zoo.detectors.fit_in_parts import PIECE, Folds, Part, PartMoments, take_fit
from padim_zoo.detectors.held_out import HeldOutScores
from padim_zoo.detectors.padim import PaDiM
from padim_zoo.statistics.moments import Moments
from padim_zoo.statistics.tree import reduce_in_tree

MOST_CHUNKS = 64
"""Moments have one size, however many images they are of: more chunks would only move more bytes."""
_SPARE = 3
"""Moments in memory beside those of folds: those of all images, of the rest of a fold, and about its mean."""


def moments_move_less(n: int, image_bytes: int, P: int, D: int) -> bool:
    """Whether moments of n images are fewer bytes than embeddings, of so many bytes for one image."""
    return n > D and chunks_of_moments(n) * Moments.bytes_needed(P, D) < n * image_bytes


def chunks_of_moments(n: int) -> int:
    """The number of chunks of n images, if all are in one fold."""
    return min(MOST_CHUNKS, chunk_count(n))


@dataclass(frozen=True)
class MomentsFit:
    """How a detector is fitted by moments.

    Attributes
    ----------
    model : PaDiM
    paths : sequence of Path
        All normal images.
    runner : ChunkRunner
    reference : Part
        One image, about which all moments are.
    bit_depth : int
    note : callable
        Is told what there is to say.
    """

    model: PaDiM
    paths: Sequence[Path]
    runner: ChunkRunner
    reference: Part
    bit_depth: int
    note: Note

    def chunks(self, folds: Folds) -> list[list[np.ndarray]]:
        """The images of each chunk of each fold: about as many as of all images at once."""
        each = max(1, round(chunks_of_moments(len(self.paths)) / len(folds.held_out)))
        return [np.array_split(fold, min(each, len(fold))) for fold in folds.held_out]

    def describe_bytes(self, folds: Folds) -> str:
        """How many bytes will move, in words."""
        one = self.bytes_of_moments()
        count = sum(map(len, self.chunks(folds)))
        return f"{amount(one * count)} will move here: moments of {count} chunks of {amount(one)}"

    def bytes_of_moments(self) -> int:
        """Of all patches."""
        return Moments.bytes_needed(self.reference.embeddings.P, self.reference.embeddings.D)

    def refuse_too_little_memory(self, folds: Folds) -> None:
        """Refuse moments that a worker has no memory for, or this machine.

        Raises
        ------
        InputError
        """
        one = self.bytes_of_moments()
        self.runner.refuse_large(max(one, PIECE * self.reference.embeddings.size_in_bytes()), "moments")
        chunks = max(map(len, self.chunks(folds)))
        needed = one * (len(folds.held_out) + chunks.bit_length() + _SPARE)
        budget = self.model.extractor.budget
        if needed > budget:
            raise InputError(
                f"the moments of {len(folds.held_out)} folds take {amount(needed)} here, and {amount(budget)} are "
                "allowed: allow more (--memory), or use fewer components or --folds"
            )

    def run(self, folds: Folds, count: int, false_alarm_rate: float | None) -> str:
        """Fit, and set the threshold, of so many folds where there can be; why there is none, if so.

        Raises
        ------
        InputError
            If there can be no threshold of the rate that was asked for.
        """
        if folds.why_none and false_alarm_rate is not None:
            raise InputError(folds.why_none)
        n = len(self.paths)
        folds.refuse_rate(false_alarm_rate)
        parts = self._first_pass(folds)
        before, folds = folds, folds.with_equal(_in_order(folds, [part.embedded for part in parts]), count)
        if not folds.is_cut_like(before):  # images that differ look alike to the backbone, as beyond a crop
            self.note("embeddings of images that differ are equal, so folds change: all go again, and as much moves")
            del parts  # before there are others
            parts = self._first_pass(folds)
        moments = [part.moments for part in parts]
        whole = _sum_of(moments)
        hashes = _in_order(folds, [part.hashes for part in parts])
        take_fit(self.model, whole, parts[0].image_size, self.bit_depth, hashes, self.paths)
        self.model.learned_images_ = self.model.learned_images_.with_groups(folds.groups)
        folds.refuse_rate(false_alarm_rate)
        if folds.why_none:
            return folds.why_none
        scores = HeldOutScores(n, false_alarm_rate, folds.groups.numbers)
        self._second_pass(folds, whole, moments, parts[0].image_size, scores)
        self.model.set_calibration(scores.calibration(len(folds.held_out)))
        return ""

    def _first_pass(self, folds: Folds) -> list[PartMoments]:
        """What the images of each fold leave behind."""
        from padim_zoo.bench.executors.fit_tasks import add_up_chunk, part_to_bytes, read_moments

        parts = []
        with (
            stage("adding up images", len(self.paths)) as progress,
            self.runner.given(part_to_bytes(self.reference)) as reference,
        ):
            in_folds = self.chunks(folds)
            every = [chunk for chunks in in_folds for chunk in chunks]
            received = self.runner.results(add_up_chunk, map(self._paths_of, every), repeat({}), reference)
            for chunks in in_folds:
                few = (read_moments(next(received), self.reference.embeddings) for _ in chunks)
                parts.append(reduce_in_tree(few, PartMoments.followed_by))
                progress.advance(len(parts[-1].hashes))
        return parts

    def _second_pass(
        self,
        folds: Folds,
        whole: Moments,
        moments: list[Moments],
        image_size: tuple[int, int],
        scores: HeldOutScores,
    ) -> None:
        """Score the images of each fold by the model of all others."""
        from padim_zoo.bench.executors.fit_tasks import gaussian_to_bytes, score_chunk

        with stage("setting the threshold", len(self.paths)) as progress:
            for number, chunks in enumerate(self.chunks(folds)):
                gaussian = self.model.fit_model(whole - moments[number])
                own: list[Mapping[str, Any]] = [
                    {"numbers": chunk.tolist(), "image_size": image_size, "every": scores.every, "form": gaussian.form}
                    for chunk in chunks
                ]
                with self.runner.given(gaussian_to_bytes(gaussian)) as given:
                    received = self.runner.results(score_chunk, map(self._paths_of, chunks), own, given)
                    for chunk, content in zip(chunks, received, strict=True):
                        scores.add_kept(chunk, of_arrays.load(content))
                        progress.advance(len(chunk))

    def _paths_of(self, numbers: np.ndarray) -> list[Path]:
        return [self.paths[number] for number in numbers]


def _sum_of(moments: Sequence[Moments]) -> Moments:
    """Moments of the images of all folds, apart from theirs."""
    first, *others = moments
    copied = {name: array.clone() for name, array in first.arrays().items()}
    whole = Moments.from_arrays(first.n, first.reference, copied)
    for other in others:
        whole = whole.absorb(other)
    return whole


def _in_order(folds: Folds, of_folds: Sequence[np.ndarray]) -> np.ndarray:
    """What there is of each image, in the order of the images."""
    values = np.concatenate(of_folds)
    ordered = np.empty_like(values)
    ordered[np.concatenate(folds.held_out)] = values
    return ordered
