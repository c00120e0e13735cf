"""The critic: values of policy steps, which say where in an episode its reward was won or lost.

Leave-one-out gives every policy step of an episode the same advantage. A value V(s), the discounted reward to
expect from a policy step on, tells steps apart: GAE is large where things went better than V expected. V reads what
the action expert makes of the observation before noise is drawn (``Pi0Network.features``) and how much of the
step limit is left; both are known before the action, so V may be subtracted without bias. Nothing flows back into
the policy: the head has an optimizer of its own and stays on the CPU, where every rank fits the same head on the
numbers of all ranks in the same order.

Advantages come from the head as it was before these episodes; only then does it learn from them.

Source of head, discounts and detached features: pi_RL (arXiv 2510.25889), RLinf's ``openpi_action_model.py`` and
``value_head.py``. They average V over noisy denoise steps when acting and take one of them when learning; here both
are the same number. Shape legend: n samples of all ranks, m of this one, W width of the features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor, nn

from pi0.ript.algo.advantages import above_episode_mean, discounted_sums, gae, standardized
from pi0.ript.algo.objective import Indices, require_finite
from pi0.ript.config.sections import OptimizerConfig, ValueConfig
from pi0.ript.engine.engine import EngineState
from pi0.ript.engine.single import SingleEngine
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.minibatches import GlobalSamples
from pi0.ript.learner.scorer import split
from pi0.ript.learner.stats import CriticStats
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Batch

HIDDEN_WIDTHS = (512, 256, 128)
MINIBATCH_SIZE = 64
GRAD_NORM_CLIP = 1.0
_COUNTS = "counts"  # batches learned from, optimizer steps taken


class ValueHead(nn.Module):
    """Features and elapsed share to value; begins at 0 everywhere.

    Args:
        width: W.
        seed: Of the random weights.
    """

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self._width = width
        generator = torch.Generator().manual_seed(seed)
        layers = [_linear(*sizes, generator) for sizes in _sizes(width)]
        nn.init.zeros_(layers[-1].weight)
        modules = [module for layer in layers for module in (layer, nn.ReLU())]
        self._mlp = nn.Sequential(*modules[:-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the values [b] of features and elapsed shares, float32 [b, W + 1]."""
        features = F.layer_norm(inputs[:, : self._width], (self._width,))
        return self._mlp(torch.cat([features, inputs[:, self._width :]], dim=1))[:, 0]


def num_weights(width: int) -> int:
    """Return how many numbers a head has for features of ``width``."""
    return sum((inputs + 1) * outputs for inputs, outputs in _sizes(width))


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    # made on no device: there it draws nothing from torch's global generator
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _sizes(width: int) -> list[tuple[int, int]]:
    widths = (width + 1, *HIDDEN_WIDTHS, 1)
    return list(pairwise(widths))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """The policy steps of all ranks by global index.

    Attributes:
        inputs: Float32 [n, W + 1], what the head reads.
        begins: Bool [n], whether a step is the first of its episode.
        rewards: Float64 [n], 1 at the last step of a success, else 0.
        advantages: Float64 [n], without the critic.
    """

    inputs: Tensor
    begins: NDArray[np.bool_]
    rewards: NDArray[np.float64]
    advantages: NDArray[np.float64]

    @classmethod
    def gather(
        cls,
        batch: Batch,
        batch_index: Indices,
        features: Tensor,
        samples: GlobalSamples,
        ranks: Ranks,
    ) -> Self:
        """Return the steps of all ranks. A collective."""
        columns = (batch.elapsed, batch.is_success, batch.advantages)
        own = [features.numpy(), *(column[batch_index, None] for column in columns)]
        records = samples.gather_records(ranks, np.concatenate(own, axis=1, dtype=np.float64))
        inputs = torch.from_numpy(records[:, :-2].astype(np.float32))
        require_finite(inputs, "features of the critic")
        begins = records[:, -3] == 0.0
        return cls(
            inputs=inputs,
            begins=begins,
            rewards=records[:, -2] * np.append(begins[1:], True),
            advantages=records[:, -1],
        )


class Critic:
    """See the module.

    Args:
        config: ``algo.value``.
        width: W.
        optimizer: AdamW beyond its learning rate.
        seed: Of the head and of the order in which it reads samples.
    """

    def __init__(
        self, config: ValueConfig, width: int, optimizer: OptimizerConfig, seed: int
    ) -> None:
        self._config = config
        self._seed = seed
        self._head = ValueHead(width, derive_seed(seed, "head"))
        parameters = list(self._head.parameters())
        self._engine = SingleEngine(
            parameters,
            optimizer,
            config.lr,
            warmup_steps=0,
            grad_norm_clip=GRAD_NORM_CLIP,
            kept_weights=range(len(parameters)),
        )
        self._num_batches = 0

    def judge(
        self,
        batch: Batch,
        batch_index: Indices,
        features: Tensor,
        samples: GlobalSamples,
        ranks: Ranks,
    ) -> tuple[Batch, CriticStats]:
        """Return the batch with an advantage of its own for every policy step, then learn from it. A collective.

        Args:
            batch: This rank's samples.
            batch_index: Int64 [m], those with weight; empty on a rank without groups.
            features: Float32 [m, W], on the CPU.
            samples: The samples of all ranks; every policy step of their episodes is among them.
            ranks: The processes.

        Raises:
            FloatingPointError: A feature or a gradient is not finite; on all ranks alike.
        """
        steps = _Steps.gather(batch, batch_index, features, samples, ranks)
        config, values = self._config, self.values(steps.inputs)
        advances = gae(steps.rewards, values, steps.begins, config.gamma, config.gae_lambda)
        advantages = self._advantages(steps, advances)
        outcomes = discounted_sums(steps.rewards, steps.begins, config.gamma)
        stats = CriticStats(
            explained_variance=explained_variance(outcomes, values),
            mean=float(values.mean()),
            loss=self._fit(steps.inputs, values + advances),
            shift=float(np.abs(advantages - steps.advantages).mean()),
        )
        judged = batch.advantages.copy()
        judged[batch_index] = advantages[samples.global_index_of_own()]
        return replace(batch, advantages=judged), stats

    @torch.no_grad()
    def values(self, inputs: Tensor) -> NDArray[np.float64]:
        """Return the values of features and elapsed shares, float32 [b, W + 1]; float64 [b]."""
        return self._head(inputs).numpy().astype(np.float64)

    def _advantages(self, steps: _Steps, advances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the policy learns from, float64 [n]."""
        if self._num_batches < self._config.warmup_batches:
            return steps.advantages
        if self._config.baseline == "none":
            return standardized(advances)
        # Every episode keeps its sum: the critic only spreads it, and a wrong one cannot add to it.
        return steps.advantages + self._config.weight * above_episode_mean(advances, steps.begins)

    def _fit(self, inputs: Tensor, returns: NDArray[np.float64]) -> float:
        """Let the head learn the returns [n]; return the mean loss of the last pass.

        The error is squared: returns are outcomes that chance decided, and what is wanted is their mean. A Huber
        loss gives the same up to its delta, and beyond something else than the mean.
        """
        targets = torch.from_numpy(returns.astype(np.float32))
        total = 0.0
        for epoch in range(self._config.epochs):
            seed = derive_seed(self._seed, "order", self._num_batches, epoch)
            order = np.random.default_rng(seed).permutation(len(targets))
            total = sum(self._step(inputs, targets, part) for part in split(order, MINIBATCH_SIZE))
        self._num_batches += 1
        return total / len(targets)

    def _step(self, inputs: Tensor, targets: Tensor, index: Indices) -> float:
        """Take one optimizer step on some samples, int64 [b]; return the sum of their losses."""
        chosen = torch.from_numpy(index)
        errors = self._head(inputs[chosen]) - targets[chosen]
        loss = 0.5 * errors.square().sum()
        self._engine.backward(loss / len(index))
        self._engine.step()
        return float(loss.detach())

    def state(self) -> dict[str, Tensor]:
        """Return head and optimizer, on the CPU; resuming from it gives the same bits."""
        state = self._engine.state()
        # exact up to 2^24, as AdamW counts its steps
        counts = torch.tensor([self._num_batches, state.num_steps], dtype=torch.float32)
        return {**state.tensors, _COUNTS: counts}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from a stored state.

        Raises:
            ValueError: There is none, or it belongs to another head.
        """
        if _COUNTS not in tensors:
            raise ValueError("the checkpoint holds no critic; it was trained with algo.critic none")
        self._num_batches, num_steps = map(int, tensors[_COUNTS].tolist())
        weights = {name: tensor for name, tensor in tensors.items() if name != _COUNTS}
        self._engine.load_state(EngineState(tensors=weights, num_steps=num_steps))


def explained_variance(outcomes: NDArray[np.float64], values: NDArray[np.float64]) -> float | None:
    """Return 1 - Var(outcome - value) / Var(outcome) of [n] each; None where all outcomes are alike."""
    variance = float(outcomes.var())
    return 1.0 - float((outcomes - values).var()) / variance if variance > 0 else None
