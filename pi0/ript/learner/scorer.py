"""The policy as objectives use it: chosen samples of a batch, prefixes kept where they cannot change."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from pi0.card import ENV_ACTION_DIM
from pi0.model.cache import PrefixCache
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.algo.objective import Indices
from pi0.ript.algo.reference import holding
from pi0.ript.learner.prefixes import KeptPrefixes, Room
from pi0.ript.types import Batch
from pi0.sampler import make_schedule


class Scorer:
    """Forward passes over chosen samples; see ``pi0.ript.algo.objective.Model``.

    Everything an objective compares comes from here: one forward function.

    Args:
        policy: Whose weights are used.
        batch: Holds the samples.
        batch_index: Int64 [n], which of them; position in this array is the own index that all methods
            take, int64 [b].
        sampling: How the chains were drawn.
        is_frozen: Prefixes cannot change.
        behavior_weights: The weights that drew the chains; None where they are the policy's own.
    """

    def __init__(
        self,
        policy: Pi0Policy,
        batch: Batch,
        batch_index: Indices,
        sampling: Sampling,
        *,
        is_frozen: bool,
        behavior_weights: Sequence[Tensor] | None = None,
    ) -> None:
        self.behavior_weights = behavior_weights
        self._policy = policy
        self._sampling = sampling
        self._inputs = policy.encode(
            [batch.observations[index] for index in batch_index],
            [batch.tasks[index] for index in batch_index],
        )
        self._is_frozen = is_frozen
        self._kept: KeptPrefixes | None = None
        self._schedule = make_schedule(sampling.num_steps, sampling.noise_scale)
        self._chains = torch.from_numpy(batch.chains[batch_index]).to(policy.device)

    def __len__(self) -> int:
        return len(self._inputs)

    @property
    def chains(self) -> Tensor:
        """Return the denoising chains of all samples, float32 [n, S + 1, H, A]."""
        return self._chains

    @property
    def stds(self) -> Tensor:
        """Return the standard deviations of the transitions, float32 [S]."""
        return self._policy.scored_stds(self._sampling)

    @property
    def times(self) -> Tensor:
        """Return the denoise times, float32 [S]."""
        return self._schedule.times_on(self._policy.device)

    def keep_prefixes(self, micro_batch_size: int, room: Room, *, all_or_none: bool) -> None:
        """Compute prefixes now and keep as many as there is room for, if they cannot change.

        Args:
            micro_batch_size: Samples that are computed at once.
            room: What they may take.
            all_or_none: Keep none if there is not room for all.
        """
        if not self._is_frozen:
            return
        micro_batches = split(np.arange(len(self)), micro_batch_size)
        first = self._compute_prefix(micro_batches[0])
        kept = KeptPrefixes(len(self), first, room)
        if len(kept) == 0 or (all_or_none and len(kept) < len(self)):
            return
        kept.put(0, first)
        for micro_batch in micro_batches[1:]:
            if micro_batch[0] < len(kept):
                kept.put(int(micro_batch[0]), self._compute_prefix(micro_batch))
        self._kept = kept

    def means(self, own_index: Indices) -> Tensor:
        """Return the means of executed transitions, float32 [b, S, h, 7], with gradient where enabled."""
        prefix, index = self._prefix(own_index), torch.from_numpy(own_index)
        chains = self._chains[index.to(self._chains.device)]
        return self._policy.transition_means(
            prefix, self._inputs.select(index), chains, self._sampling
        )

    def chain_velocities(self, own_index: Indices) -> Tensor:
        """Return the velocities along the chains, float32 [b, S, H, A]."""
        prefix, index = self._prefix(own_index), torch.from_numpy(own_index)
        chains = self._chains[index.to(self._chains.device)]
        return self._policy.chain_velocities(
            prefix, self._inputs.select(index), chains, self._sampling
        )

    def velocity(
        self, own_index: Indices, x: Tensor, times: Tensor, *, is_conditional: bool
    ) -> Tensor:
        """Return velocities of executed entries, float32 [b, R, h, 7]."""
        inputs = self._inputs.select(torch.from_numpy(own_index))
        guidance = 1.0 if is_conditional else 0.0
        found = self._policy.velocity(self._prefix(own_index), inputs, x, times, guidance=guidance)
        return found[:, :, : self._policy.card.execute_steps, :ENV_ACTION_DIM]

    @torch.no_grad()
    def features(self, micro_batch_size: int) -> Tensor:
        """Return what the action expert makes of the samples' observations, float32 [n, W], on the CPU.

        Args:
            micro_batch_size: Samples that are computed at once.
        """
        parts = [
            self._policy.features(
                self._prefix(own_index), self._inputs.select(torch.from_numpy(own_index))
            ).cpu()
            for own_index in split(np.arange(len(self)), micro_batch_size)
        ]
        return torch.cat(parts)

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained."""
        return [p for p in self._policy.network.parameters() if p.requires_grad]

    def with_behavior_weights(self) -> AbstractContextManager[None]:
        """Give the policy the weights that drew the chains, inside the block."""
        return (
            nullcontext() if self.behavior_weights is None else self.holding(self.behavior_weights)
        )

    def holding(self, weights: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Give the policy other weights inside the block; copied only if on another device."""
        return holding(self.parameters(), weights)

    def _prefix(self, own_index: Indices) -> PrefixCache:
        if self._kept is None:
            return self._compute_prefix(own_index)
        return self._kept.select(own_index, self._compute_prefix)

    def _compute_prefix(self, own_index: Indices) -> PrefixCache:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen):
            return self._policy.prefix(self._inputs.select(torch.from_numpy(own_index)))


def split(indices: Indices, size: int) -> list[Indices]:
    """Return indices of any space in consecutive micro-batches of at most ``size``."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]
