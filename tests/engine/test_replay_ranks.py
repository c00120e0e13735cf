"""Two and three ranks that replay learn what a single process learns."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.config.algo import ReplayWeighting
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.ddp import DdpEngine
from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.engine.single import SingleEngine
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.replay import Replay
from pi0.ript.learner.stats import UpdateStats
from pi0.ript.learner.update import update
from tests.engine.test_ranks import ALGO, NUM_SAMPLES, Witness, distance, flat, part_of
from tests.learner.samples import SAMPLING, draw_batch
from tests.policy_parts import small_policy
from tests.ranks import run_ranks

Owners = tuple[tuple[set[int], ...], ...]
ALL_GROUPS: Owners = (({0, 1, 2, 3},),) * 3
# of each step, by rank: in the second one rank has old groups alone, in the third the other has new ones alone
DEALT: Owners = (({0, 2, 1, 3}, set()), ({1}, {0, 2, 3}), (set(), {0, 1, 2, 3}))


def learn(
    ranks: Ranks, owners: Owners, weighting: ReplayWeighting
) -> tuple[list[Tensor], list[UpdateStats]]:
    """Return the gradients of all optimizer steps, and the metrics."""
    algo = replace(ALGO, replay_steps=1, replay_weighting=weighting)
    policy, objective, replay = small_policy(), FlowSde(algo), Replay(algo.replay_steps)
    parameters = policy.trainable_parameters(expert_only=True)
    single = SingleEngine(parameters, OptimizerConfig(), algo.lr, 0, 1.0)
    engine: Any = DdpEngine(single, ranks) if isinstance(ranks, ProcessGroup) else single
    witness, stats = Witness(engine, parameters), []
    for step, owned in enumerate(owners, start=1):
        new = part_of(draw_batch(policy, NUM_SAMPLES, seed=step), owned[ranks.rank], policy)
        batch = replay.join(step, new, NUM_SAMPLES)
        stats.append(
            update(
                policy, witness, batch, objective, algo, SAMPLING, step,
                has_frozen_prefix=True, ranks=ranks,
            )
        )  # fmt: skip
        replay.keep(step, batch, NUM_SAMPLES, objective)
    assert flat(parameters).isfinite().all()
    return witness.gradients, stats


@pytest.mark.parametrize("weighting", ["smooth", "decoupled"])
def test_ranks_learn_what_a_single_process_learns(weighting: ReplayWeighting):
    gradients, stats = learn(SINGLE_PROCESS, ALL_GROUPS, weighting)

    results = run_ranks(2, learn, DEALT, weighting)

    assert len(gradients) == 6  # three updates of two minibatches
    for found, found_stats in results:
        assert distance(found[0], gradients[0]) < 1e-6
        assert all(distance(*pair) < 5e-5 for pair in zip(found, gradients, strict=True))
        assert found_stats == results[0][1], "ranks report different metrics"
        for one, other in zip(stats, found_stats, strict=True):
            assert other.num_replayed == one.num_replayed
            assert (other.effective_samples or 0) == pytest.approx(
                one.effective_samples or 0, abs=1e-5
            )
            assert (other.replay_kl or 0) == pytest.approx(one.replay_kl or 0, rel=1e-3)
            assert other.loss == pytest.approx(one.loss, abs=1e-5)
    assert [each.num_replayed for each in stats] == [None, NUM_SAMPLES, NUM_SAMPLES]
    assert all(torch.equal(*pair) for pair in zip(results[0][0], results[1][0], strict=True))
