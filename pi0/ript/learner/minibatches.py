"""Which samples of an update lie on which rank: every rank knows the order and weight of all of them.

Minibatches are cut from the samples of all ranks together, as a single process would cut them. Three
index spaces occur here; each argument and attribute says which one it is in:

- batch index: position in this rank's ``Batch``;
- own index: position among this rank's samples with signal;
- global index: position among the samples with signal of all ranks, in the order of their groups.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pi0.ript.algo.objective import Indices
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.scorer import split

# Index 0, in whatever space: the sample that a rank without signal computes, with weight 0.
IDLE_SAMPLE: Indices = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalSamples:
    """The samples with signal of all ranks; position n of every attribute is global index n.

    Attributes:
        weights: Float32 [n], on the device of the policy: shares of the loss, whose sum is 1.
        owners: Int64 [n], the rank that holds each sample.
        own_index: Int64 [n], own index of each sample on the rank that holds it.
        rank: This rank.
    """

    weights: Tensor
    owners: NDArray[np.int64]
    own_index: Indices
    rank: int

    @classmethod
    def gather(
        cls,
        ranks: Ranks,
        groups: NDArray[np.int64],
        weights: NDArray[np.float32],
        device: torch.device,
    ) -> "GlobalSamples":
        """Return what all ranks hold, with normalized weights. A collective: all ranks call it.

        Args:
            ranks: The processes.
            groups: Int64 [m], group numbers of this rank's samples by own index, rising; a group lies
                on one rank.
            weights: Float32 [m] by own index, not normalized.
            device: Where the normalized weights go.
        """
        parts = ranks.gather(np.stack([groups, weights], axis=1).astype(np.float64))
        table = np.concatenate(parts)
        order = np.argsort(table[:, 0], kind="stable")
        owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        own_index = np.concatenate([np.arange(len(part)) for part in parts])
        all_weights = torch.as_tensor(table[order, 1].astype(np.float32)).to(device)
        return cls(
            weights=all_weights / all_weights.sum(),
            owners=owners[order],
            own_index=own_index[order],
            rank=ranks.rank,
        )

    def __len__(self) -> int:
        return len(self.owners)

    def global_index_of_own(self) -> Indices:
        """Return the global index of each of this rank's samples, int64 [m] by own index."""
        return np.flatnonzero(self.owners == self.rank)

    def gather_records(self, ranks: Ranks, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what every rank has of its samples, in the order of the global index. A collective.

        Args:
            ranks: The processes.
            own: Float64 [m, c] by own index, c numbers of each of this rank's samples.

        Returns:
            Float64 [n, c].
        """
        parts = ranks.gather(own)
        starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        return np.concatenate(parts)[starts[self.owners] + self.own_index]

    def own_among(self, global_index: Indices) -> Indices:
        """Return the own index of those samples that this rank holds, in their order."""
        return self.own_index[global_index[self.owners[global_index] == self.rank]]

    def num_passes(self, global_index: Indices, size: int) -> int:
        """Return how many micro-batches of ``size`` the rank with most of the samples needs."""
        return -(-int(np.bincount(self.owners[global_index]).max()) // size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minibatch:
    """The samples of one optimizer step.

    Attributes:
        global_index: Int64 [b], the samples of all ranks.
        micro_batches: Own indices of this rank's part of them, in micro-batches.
        num_passes: Micro-batches of the rank with the largest part.
    """

    global_index: Indices
    micro_batches: list[Indices]
    num_passes: int


def cut(samples: GlobalSamples, order: Indices, num_minibatches: int, size: int) -> list[Minibatch]:
    """Return the minibatches of an epoch, each cut into micro-batches.

    Args:
        samples: Those of all ranks.
        order: Int64 [n], a permutation of the global indices.
        num_minibatches: Most minibatches.
        size: Most samples of a micro-batch.
    """
    parts = np.array_split(order, min(num_minibatches, len(order)))
    return [
        Minibatch(
            global_index=part,
            micro_batches=split(samples.own_among(part), size),
            num_passes=samples.num_passes(part, size),
        )
        for part in parts
    ]
