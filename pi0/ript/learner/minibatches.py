"""Which rows of an update are whose: every rank knows the order and weight of all rows, and holds its own.

Minibatches are cut from the rows of all ranks together, as one process would cut them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pi0.ript.algo.objective import Indices
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.scorer import split


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The rows that teach something, in the order of their groups.

    Attributes:
        weights: Float32 [n], of all ranks' rows.
        owners: Int64 [n], the rank that holds each.
        places: Int64 [n], position among the rows of its owner.
        rank: Who we are.
    """

    weights: NDArray[np.float32]
    owners: NDArray[np.int64]
    places: NDArray[np.int64]
    rank: int

    @classmethod
    def of(cls, ranks: Ranks, groups: NDArray[np.int64], weights: NDArray[np.float32]) -> "Share":
        """Tell the others about our rows and hear about theirs; all ranks meet here.

        Args:
            ranks: The processes.
            groups: Int64 [m], group numbers of our rows, rising; a group lies on one rank.
            weights: Float32 [m].
        """
        parts = ranks.gather(np.stack([groups, weights], axis=1).astype(np.float64))
        table = np.concatenate(parts)
        order = np.argsort(table[:, 0], kind="stable")
        owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        places = np.concatenate([np.arange(len(part)) for part in parts])
        return cls(
            weights=table[order, 1].astype(np.float32),
            owners=owners[order],
            places=places[order],
            rank=ranks.rank,
        )

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def own_numbers(self) -> Indices:
        """Return the numbers that our rows have among those of all ranks, in the order of our rows."""
        return np.flatnonzero(self.owners == self.rank)

    def own(self, samples: Indices) -> Indices:
        """Return which of our rows are among ``samples`` of all, in their order."""
        return self.places[samples[self.owners[samples] == self.rank]]

    def num_passes(self, samples: Indices, size: int) -> int:
        """Return how many micro-batches the rank with most of ``samples`` needs."""
        return -(-int(np.bincount(self.owners[samples]).max()) // size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minibatch:
    """What one optimizer step sees.

    Attributes:
        samples: Int64, numbers among the rows of all ranks.
        micro_batches: Our part of them in micro-batches of our own row numbers.
        num_passes: Micro-batches of the rank with the largest part.
    """

    samples: Indices
    micro_batches: list[Indices]
    num_passes: int


def cut(share: Share, order: Indices, num_minibatches: int, size: int) -> list[Minibatch]:
    """Return the minibatches of an epoch, each cut into micro-batches.

    Args:
        share: Whose rows are whose.
        order: Int64 [n], a permutation of the rows of all ranks.
        num_minibatches: Most minibatches.
        size: Most rows of a micro-batch.
    """
    parts = np.array_split(order, min(num_minibatches, len(order)))
    return [
        Minibatch(
            samples=part,
            micro_batches=split(share.own(part), size),
            num_passes=share.num_passes(part, size),
        )
        for part in parts
    ]
