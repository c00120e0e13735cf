"""One, two and three ranks learn the same from the same samples."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pi0.policy import Pi0Policy
from pi0.ript.build_learner import build_objective
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.config.sections import OptimizerConfig, ValueConfig
from pi0.ript.engine.ddp import DdpEngine
from pi0.ript.engine.engine import Engine
from pi0.ript.engine.fsdp import FsdpEngine, shard
from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.engine.single import SingleEngine
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.batch import idle_batch
from pi0.ript.learner.critic import Critic
from pi0.ript.learner.stats import UpdateStats
from pi0.ript.learner.update import update
from pi0.ript.types import Batch
from tests.learner.samples import SAMPLING, draw_batch
from tests.policy_parts import small_policy
from tests.ranks import run_ranks

NUM_SAMPLES = 11  # groups of 3, 3, 3 and 2 samples
ALGO = AlgoConfig(num_epochs=1, num_minibatches=2, micro_batch_size=2, warmup_steps=0, kl_stop=None)


class Witness:
    """An engine that keeps the gradient of every step on its way into another one."""

    def __init__(self, engine: Any, parameters: list[torch.nn.Parameter]) -> None:
        self._engine = engine
        self._parameters = parameters
        self.gradients: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, lr_share: float) -> float:
        self.gradients.append(flat(p.grad for p in self._parameters if p.grad is not None))
        return self._engine.step(lr_share)


def flat(tensors: Any) -> Tensor:
    parts = [t.full_tensor() if hasattr(t, "full_tensor") else t for t in tensors]
    return torch.cat([part.detach().flatten() for part in parts])


def distance(found: Tensor, expected: Tensor) -> float:
    """Return how far a gradient is off, relative to its norm."""
    return float((found - expected).norm() / expected.norm())


def part_of(batch: Batch, groups: set[int], policy: Pi0Policy) -> Batch:
    """Return the samples of some groups, or the idle sample of a rank that has none."""
    samples = np.flatnonzero(np.isin(batch.groups, list(groups)))
    if not samples.size:
        return idle_batch(policy.card, SAMPLING.num_steps)
    return Batch(
        observations=tuple(batch.observations[sample] for sample in samples),
        tasks=tuple(batch.tasks[sample] for sample in samples),
        chains=batch.chains[samples],
        advantages=batch.advantages[samples],
        weights=batch.weights[samples],
        is_success=batch.is_success[samples],
        is_scored=batch.is_scored[samples],
        num_executed=batch.num_executed[samples],
        groups=batch.groups[samples],
        seeds=batch.seeds[samples],
        elapsed=batch.elapsed[samples],
    )


def learn(
    ranks: Ranks,
    owners: tuple[set[int], ...],
    algo: AlgoConfig,
    num_steps: int = 3,
    strategy: str = "ddp",
    *,
    expert_only: bool = True,
    is_pi05: bool = False,
) -> tuple[list[Tensor], Tensor, list[UpdateStats]]:
    """Return the gradients of all optimizer steps, the weights after them, and the metrics."""
    policy = small_policy(is_pi05=is_pi05)
    objective = build_objective(algo)
    parameters = policy.trainable_parameters(expert_only=expert_only)
    if algo.objective == "cfg":
        parameters.append(policy.network.add_unconditional())
    is_sharded = isinstance(ranks, ProcessGroup) and strategy == "fsdp"
    if is_sharded:
        parameters = shard(policy.network, parameters, ranks)
    single = SingleEngine(parameters, OptimizerConfig(), algo.lr, 0, 1.0)
    engine: Engine = single
    if isinstance(ranks, ProcessGroup):
        engine = (
            FsdpEngine(single, policy.network, ranks) if is_sharded else DdpEngine(single, ranks)
        )
    width, seed = policy.network.feature_width, 5
    critic = None if algo.critic == "none" else Critic(algo.value, width, OptimizerConfig(), seed)
    witness = Witness(engine, parameters)
    stats = []
    for step in range(num_steps):
        batch = part_of(draw_batch(policy, NUM_SAMPLES, seed=step), owners[ranks.rank], policy)
        stats.append(
            update(
                policy, witness, batch, objective, algo, SAMPLING, step,
                has_frozen_prefix=expert_only, critic=critic, ranks=ranks,
            )
        )  # fmt: skip
    return witness.gradients, flat(parameters), stats


DEALT = [
    pytest.param(({0, 2}, {1, 3}), id="two-ranks-unequal-samples"),
    pytest.param(({0, 3}, {1}, {2}), id="three-ranks"),
    pytest.param(({0, 1, 2, 3}, set()), id="a-rank-without-groups"),
    pytest.param((set(), {0, 1}, {2, 3}), id="rank-0-without-groups"),
]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("owners", DEALT)
def test_ranks_learn_what_a_single_process_learns(owners: tuple[set[int], ...], strategy: str):
    gradients, weights, stats = learn(SINGLE_PROCESS, ({0, 1, 2, 3},), ALGO)

    results = run_ranks(len(owners), learn, owners, ALGO, 3, strategy)

    assert len(gradients) == 6  # 3 updates of 2 minibatches
    for found, found_weights, found_stats in results:
        assert distance(found[0], gradients[0]) < 1e-6
        # the weights, equal up to rounding by then, have been moved in between
        assert all(distance(*pair) < 5e-5 for pair in zip(found, gradients, strict=True))
        torch.testing.assert_close(found_weights, weights, rtol=0, atol=1e-5)
        assert found_stats == results[0][2], "ranks report different metrics"
        for one, other in zip(stats, found_stats, strict=True):
            # metrics of weights that are equal to 1e-5 by then
            assert other.loss == pytest.approx(one.loss, abs=1e-5)
            assert other.kl == pytest.approx(one.kl, abs=1e-5)
            assert other.num_optimizer_steps == one.num_optimizer_steps
    assert all(torch.equal(result[1], results[0][1]) for result in results)


@pytest.mark.parametrize("owners", DEALT)
def test_ranks_learn_with_the_critic_of_a_single_process(owners: tuple[set[int], ...]):
    algo = replace(ALGO, critic="value", value=ValueConfig(warmup_batches=0))
    gradients, weights, stats = learn(SINGLE_PROCESS, ({0, 1, 2, 3},), algo)

    results = run_ranks(len(owners), learn, owners, algo)

    for found, found_weights, found_stats in results:
        assert distance(found[0], gradients[0]) < 1e-6
        torch.testing.assert_close(found_weights, weights, rtol=0, atol=1e-5)
        assert found_stats == results[0][2], "ranks report different metrics"
        for one, other in zip(stats, found_stats, strict=True):
            assert asdict(other.critic) == pytest.approx(asdict(one.critic), abs=1e-5)


@pytest.mark.parametrize("objective", ["nft", "cfg", "bc"])
def test_it_does_not_matter_which_rank_draws_noise_for_a_sample(objective: str):
    # These rules draw the points at which a sample is compared. Rank 0 holds the first of group 0 and
    # rank 1 the first of group 1: the same own index, but another global index.
    algo = replace(ALGO, objective=objective, kl_stop=AlgoConfig().kl_stop, num_epochs=2)
    gradients, weights, _ = learn(SINGLE_PROCESS, ({0, 1, 2, 3},), algo, num_steps=2)

    results = run_ranks(3, learn, ({0, 2}, {1, 3}, set()), algo, 2)

    for found, found_weights, _ in results:
        assert distance(found[0], gradients[0]) < 1e-6
        assert all(distance(*pair) < 5e-5 for pair in zip(found, gradients, strict=True))
        torch.testing.assert_close(found_weights, weights, rtol=0, atol=1e-5)


def test_full_training_is_sharded_as_well():
    gradients, weights, _ = learn(SINGLE_PROCESS, ({0, 1, 2, 3},), ALGO, 1, expert_only=False)

    results = run_ranks(2, learn_all, ({0, 1, 2}, {3}))

    for found, found_weights, _ in results:
        assert distance(found[0], gradients[0]) < 5e-6  # three times as deep as the expert alone
        torch.testing.assert_close(found_weights, weights, rtol=0, atol=1e-5)


def learn_all(ranks: Ranks, owners: tuple[set[int], ...]) -> Any:
    return learn(ranks, owners, ALGO, 1, "fsdp", expert_only=False)


def test_all_ranks_stop_at_the_same_minibatch():
    algo = replace(ALGO, num_epochs=3, lr=3e-2, kl_stop=1e-3)
    _, _, stats = learn(SINGLE_PROCESS, ({0, 1, 2, 3},), algo, num_steps=1)

    results = run_ranks(2, learn, ({0, 1, 2}, {3}), algo, 1)

    assert stats[0].has_stopped_early
    assert 0 < stats[0].num_optimizer_steps < 6
    for _, _, found in results:
        assert found[0].has_stopped_early
        assert found[0].num_optimizer_steps == stats[0].num_optimizer_steps
