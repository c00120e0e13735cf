"""What an objective is: the interface between the update, which walks samples, and the learning rules.

Objectives address samples by own index: position among this rank's samples with signal.

Shape legend: n samples with signal of this rank, b samples of a micro-batch, S denoise steps, R noise draws
per sample, H actions per chunk, h executed actions, A model action dims.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pi0.ript.types import Batch

Indices = NDArray[np.int64]
"""Positions of samples; the name or docstring of each argument says in which index space."""


class Model(Protocol):
    """The policy as an objective uses it: own indices in, tensors out, with gradient where enabled."""

    @property
    def chains(self) -> Tensor:
        """Return the denoising chains of all samples, float32 [n, S + 1, H, A]."""
        ...

    @property
    def stds(self) -> Tensor:
        """Return the standard deviations of the transitions, float32 [S]."""
        ...

    @property
    def times(self) -> Tensor:
        """Return the denoise times, float32 [S], from 1 (noise) down to 1 / S."""
        ...

    @property
    def behavior_weights(self) -> Sequence[Tensor] | None:
        """Return the weights that drew the chains; None where they are those before the update."""
        ...

    def means(self, own_index: Indices) -> Tensor:
        """Return the means of executed transitions, float32 [b, S, h, 7]; ``own_index`` int64 [b]."""
        ...

    def velocity(
        self, own_index: Indices, x: Tensor, times: Tensor, *, is_conditional: bool
    ) -> Tensor:
        """Return velocities of executed entries, float32 [b, R, h, 7].

        Args:
            own_index: Int64 [b].
            x: Float32 [b, R, H, A].
            times: Float32 [b, R].
            is_conditional: False for the unconditional branch of classifier-free guidance.
        """
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained."""
        ...

    def holding(self, weights: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Give the policy other weights inside the block; for use without gradient."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What is known about samples besides observations and chains; all attributes by own index.

    Attributes:
        batch_index: Int64 [n], position of the sample in this rank's batch.
        advantages: Float32 [n], of the sample's episode.
        weights: Float32 [n], shares of the loss; those of all ranks sum to 1.
        is_scored: Bool [n, S], transitions that were drawn with noise.
        num_executed: Int64 [n], actions of the chunk that were executed.
        global_index: Int64 [n], position of the sample among those of all ranks; what is drawn for a sample
            derives from it, so that it does not matter which rank holds the sample.
        behavior_means: Float32 [r, S, h, 7], transition means of the first r samples, which are replayed, under
            the weights that drew them, [r, 0, 0, 0] for a rule without likelihood; None where no sample is replayed.
    """

    batch_index: Indices
    advantages: Tensor
    weights: Tensor
    is_scored: Tensor
    num_executed: Tensor
    global_index: Indices
    behavior_means: Tensor | None = None

    @classmethod
    def of(
        cls, batch: Batch, batch_index: Indices, weights: Tensor, global_index: Indices
    ) -> "Targets":
        """Return the targets of chosen samples, on the device of ``weights``.

        Args:
            batch: Holds the samples.
            batch_index: Int64 [n], which of them; position in this array is the own index.
            weights: Float32 [n], shares of the loss by own index.
            global_index: Int64 [n], by own index.
        """
        means, replayed = batch.behavior_means, batch_index[batch_index < batch.num_replayed]
        return cls(
            batch_index=batch_index,
            advantages=torch.as_tensor(batch.advantages[batch_index]).to(weights.device),
            weights=weights,
            is_scored=torch.as_tensor(batch.is_scored[batch_index]).to(weights.device),
            num_executed=torch.as_tensor(batch.num_executed[batch_index]).to(weights.device),
            global_index=global_index,
            behavior_means=None
            if means is None
            else torch.as_tensor(means[replayed]).to(weights.device),
        )

    def is_executed(self, own_index: Indices | slice, num_actions: int) -> Tensor:
        """Return which of the first ``num_actions`` actions of some samples were executed, bool [b, h]."""
        number = torch.arange(num_actions, device=self.num_executed.device)
        return number < self.num_executed[own_index][:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a micro-batch contributes.

    Attributes:
        loss: Float32 [b], with gradient.
        kl: Float32 [b], mean exact KL per scored transition; None for objectives without likelihood.
        log_ratios: Float32 [b, S], without gradient, 0 where not scored; None likewise.
        clip_fraction: Float32 [b], share of scored ratios outside the clip range; None likewise.
        stale_kl: Float32 [b], mean exact KL per scored transition from the behavior weights to those
            before the update; None where they are the same.
    """

    loss: Tensor
    kl: Tensor | None = None
    log_ratios: Tensor | None = None
    clip_fraction: Tensor | None = None
    stale_kl: Tensor | None = None


class ReplayTotals(NamedTuple):
    """Sums over a rank's replayed samples before the first optimizer step; those of all ranks add up.

    Attributes:
        num_samples: Samples.
        num_transitions: Their scored transitions.
        weight: Sum of what the advantage of each transition is multiplied by.
        squared_weight: Sum of its square.
        kl: Sum of the exact KL from the weights that drew a transition to those before the update.
    """

    num_samples: float
    num_transitions: float
    weight: float
    squared_weight: float
    kl: float

    @classmethod
    def unweighted(cls, num_samples: int) -> "ReplayTotals":
        """Return the sums over samples of a rule that compares no likelihoods."""
        return cls(float(num_samples), num_transitions=0.0, weight=0.0, squared_weight=0.0, kl=0.0)

    @property
    def effective_share(self) -> float | None:
        """Return (sum w)^2 / (n sum w^2) over n transitions, in [0, 1]; None where there are none."""
        if not self.num_transitions:
            return None
        if not self.squared_weight:  # every weight has underflowed
            return 0.0
        return self.weight**2 / (self.num_transitions * self.squared_weight)

    @property
    def mean_kl(self) -> float | None:
        """Return the KL per transition; None where there are none."""
        return self.kl / self.num_transitions if self.num_transitions else None


class Objective(Protocol):
    """A learning rule. ``begin``, then ``terms`` for every micro-batch, then ``finish``, once per update."""

    @property
    def kl_stop(self) -> float | None:
        """Return the mean KL per transition at which an update ends."""
        ...

    def has_signal(self, batch: Batch) -> NDArray[np.bool_]:
        """Return which samples it learns from, bool [B] by batch index."""
        ...

    def begin(
        self, model: Model, targets: Targets, micro_batches: Sequence[Indices], seed: int
    ) -> ReplayTotals | None:
        """Compute what stays fixed during an update, without gradient; return what is known of replayed samples.

        Args:
            model: The policy before the update.
            targets: Of all samples.
            micro_batches: Own indices of the micro-batches of the first pass: the same samples in the same
                call give the same bits.
            seed: Every draw of the update derives from it.
        """
        ...

    def terms(self, own_index: Indices, epoch: int) -> Terms:
        """Return loss and metrics of the micro-batch ``own_index``, int64 [b]; epochs count from 0."""
        ...

    def finish(self) -> None:
        """Conclude the update."""
        ...

    @property
    def means_before(self) -> tuple[Indices, Tensor] | None:
        """Return what the transition means were before the last update; None for a rule that cannot replay.

        Returns:
            Int64 [n], the samples by batch index, and float32 [n, S, h, 7], their means, or [n, 0, 0, 0] where the rule
            compares no likelihoods.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what has to survive in a checkpoint, on the CPU."""
        ...

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a stored state."""
        ...


def require_finite(values: Tensor, what: str) -> None:
    """Raise FloatingPointError with one line unless every number is finite."""
    if not bool(torch.isfinite(values.detach()).all()):
        raise FloatingPointError(
            f"{what} not finite: no checkpoint holds this update; lower algo.lr or check the checkpoint"
        )


def by_sample(micro_batches: Sequence[Indices], parts: Sequence[Tensor]) -> Tensor:
    """Join what was computed by micro-batch, float [b, ...] each, in order of own index, [n, ...]."""
    joined = torch.cat(list(parts))
    ordered = torch.empty_like(joined)
    ordered[torch.as_tensor(np.concatenate(micro_batches)).to(joined.device)] = joined
    return ordered
