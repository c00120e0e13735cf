"""Updates of a small pi0, with gradients recorded or weights moved."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from pi0.policy import Pi0Policy
from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.build_learner import build_objective
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.single import SingleEngine
from pi0.ript.learner.critic import Critic
from pi0.ript.learner.prefixes import Room
from pi0.ript.learner.stats import UpdateStats
from pi0.ript.learner.update import update
from pi0.ript.types import Batch
from tests.learner.samples import SAMPLING

ALGO = AlgoConfig(num_epochs=1, num_minibatches=1, micro_batch_size=8, warmup_steps=0)
NUM_SAMPLES = 7


class Recorder:
    """An engine that keeps the gradient of every step and never moves a weight."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.gradients: list[Tensor] = []

    needs_equal_passes = False

    def learning(self) -> AbstractContextManager[None]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def exchange(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def step(self, lr_share: float) -> float:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.gradients.append(torch.cat([gradient.flatten() for gradient in gradients]))
        self.discard()
        return float(self.gradients[-1].norm())

    def discard(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


def record(
    policy: Pi0Policy,
    batch: Batch,
    algo: AlgoConfig,
    *,
    expert_only: bool = True,
    room: Room | None = None,
) -> tuple[UpdateStats, list[Tensor]]:
    recorder = Recorder(policy.trainable_parameters(expert_only=expert_only))
    stats = update(
        policy,
        recorder,
        batch,
        build_objective(algo),
        algo,
        SAMPLING,
        seed=3,
        has_frozen_prefix=expert_only,
        prefix_room=room,
    )
    return stats, recorder.gradients


def train(
    policy: Pi0Policy,
    batch: Batch,
    algo: AlgoConfig,
    *,
    seed: int = 3,
    expert_only: bool = True,
    behavior_weights: list[Tensor] | None = None,
    critic: Critic | None = None,
) -> UpdateStats:
    engine = SingleEngine(
        policy.trainable_parameters(expert_only=expert_only),
        OptimizerConfig(),
        algo.lr,
        algo.warmup_steps,
        algo.grad_norm_clip,
    )
    return update(
        policy,
        engine,
        batch,
        FlowSde(algo),
        algo,
        SAMPLING,
        seed,
        has_frozen_prefix=expert_only,
        behavior_weights=behavior_weights,
        critic=critic,
    )


def clones_of(policy: Pi0Policy) -> list[Tensor]:
    return [p.detach().clone() for p in policy.trainable_parameters(expert_only=True)]
