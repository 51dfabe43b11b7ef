"""Which frames an epoch shows when training reads several data sets, each with a weight of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from spd.data.query_sampling import epoch_order, mixture_seed


class Draw(NamedTuple):
    """One sample of an epoch."""

    frame: int
    """Position among the frames of all data sets, one set after the other."""
    repeat: int = 0
    """How often the epoch has drawn this frame before."""


@dataclass(frozen=True)
class Share:
    """What one data set gives to a mixture."""

    scenes: tuple[str, ...]
    """Label of each frame's scene; frames without a label count as scenes of their own where they are empty."""
    weight: float
    """Part of the samples that comes from this set, in any unit."""
    scene_balance: float = 0.0
    """b: a frame of a scene of n frames is drawn with a probability proportional to n^-b. 0 draws every frame as often
    as any other, 1 every scene."""

    def frame_probabilities(self) -> Float[np.ndarray, "N"]:
        """How often each frame is drawn, as parts of one."""
        sizes = Counter(scene for scene in self.scenes if scene)
        counts = np.array([sizes[scene] if scene else 1 for scene in self.scenes], np.float64)
        relative = counts**-self.scene_balance
        return relative / relative.sum()


@dataclass(frozen=True)
class Mixture:
    """The order of frames in every epoch: a pure function of the shares, the seed and the epoch's number.

    An epoch has as many samples as there are frames in all sets. Each set gives its part of them, the same number in
    every epoch. Within a set, frames are drawn by systematic sampling: a frame that is expected x times in an epoch is
    drawn ⌊x⌋ or ⌈x⌉ times. A single set without scene balance is a permutation of its frames.
    """

    shares: tuple[Share, ...]
    seed: int

    def __len__(self) -> int:
        return sum(len(share.scenes) for share in self.shares)

    def counts(self) -> list[int]:
        """Samples that each set gives to an epoch; the largest remainders round up, so that they add up."""
        total = sum(share.weight for share in self.shares)
        exact = [len(self) * share.weight / total for share in self.shares]
        counts = [int(part) for part in exact]
        by_remainder = sorted(range(len(exact)), key=lambda number: counts[number] - exact[number])
        for number in by_remainder[: len(self) - sum(counts)]:
            counts[number] += 1
        return counts

    def epoch(self, number: int) -> list[Draw]:
        """The samples of an epoch in their order."""
        if len(self.shares) == 1 and self.shares[0].scene_balance == 0:
            return [Draw(frame) for frame in epoch_order(len(self), self.seed, number)]
        drawn: list[Draw] = []
        first = 0
        for position, (share, count) in enumerate(zip(self.shares, self.counts(), strict=True)):
            seen: Counter[int] = Counter()
            for frame in self._frames(share, count, number, position):
                drawn.append(Draw(first + frame, seen[frame]))
                seen[frame] += 1
            first += len(share.scenes)
        return [drawn[index] for index in epoch_order(len(drawn), self.seed, number)]

    def _frames(self, share: Share, count: int, epoch: int, position: int) -> Sequence[int]:
        """Systematic sampling of one set: equally spaced places on the frames' probabilities, in a random order."""
        generator = torch.Generator().manual_seed(mixture_seed(self.seed, epoch, position))
        order = torch.randperm(len(share.scenes), generator=generator).numpy()
        ends = np.cumsum(share.frame_probabilities()[order])
        start = torch.rand((), generator=generator, dtype=torch.float64).item()
        places = (np.arange(count) + start) / max(count, 1) * ends[-1]
        return order[np.searchsorted(ends, places, side="right").clip(max=len(order) - 1)].tolist()
