"""Whatever trains a pi0 trains a pi0.5: the same update, objectives, adapters, precisions and copies."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pi0.checkpoint import load_policy, save_policy
from pi0.frozen_copy import copy_weights, make_frozen_copy, trained_weights
from pi0.model.gemma import AdaptiveNorm
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.build_learner import build_engine, build_objective
from pi0.ript.config.schema import AlgoConfig, PolicyConfig, TrainConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.learner.stats import UpdateStats
from pi0.ript.learner.update import update
from pi0.ript.types import Batch
from tests.engine.test_ranks import ALGO as RANKS_ALGO
from tests.engine.test_ranks import distance, learn
from tests.learner.samples import SAMPLING, draw_batch, weights_of
from tests.learner.updates import NUM_SAMPLES, record
from tests.policy_parts import TASKS, make_observations, small_policy
from tests.ranks import run_ranks

ALGO = AlgoConfig(num_epochs=2, num_minibatches=2, micro_batch_size=3, lr=1e-4, warmup_steps=0)
# 8 numbers in words of bytes
CARD = {"prompt_state": "8", "max_prompt_tokens": 110}


def make_policy(seed: int = 0) -> Pi0Policy:
    return small_policy(seed=seed, is_pi05=True, **CARD)


def train(
    policy: Pi0Policy, batch: Batch, algo: AlgoConfig = ALGO, *, expert_only: bool = True
) -> UpdateStats:
    config = TrainConfig(algo=algo, policy=PolicyConfig(train_expert_only=expert_only))
    engine, objective = build_engine(config, policy), build_objective(algo)
    return update(
        policy, engine, batch, objective, algo, SAMPLING, 3, has_frozen_prefix=expert_only
    )


def changed(before: dict[str, torch.Tensor], policy: Pi0Policy) -> set[str]:
    return {name for name, x in before.items() if not torch.equal(weights_of(policy)[name], x)}


def act(policy: Pi0Policy, sampling: Sampling = SAMPLING) -> np.ndarray:
    chunks = policy.act(make_observations(4), TASKS, [1, 2, 3, 4], sampling)
    return np.stack([chunk.chain for chunk in chunks])


@pytest.mark.parametrize("expert_only", [True, False])
def test_first_ratios_are_exactly_one(expert_only: bool):
    policy = make_policy()

    stats, _ = record(policy, draw_batch(policy, NUM_SAMPLES), ALGO, expert_only=expert_only)

    assert stats.log_ratio_max == 0.0
    assert stats.kl == 0.0


def test_scoring_gives_the_means_that_acting_drew_from():
    """x_{k+1} - mean_k is the injected noise: its deviation is that of the schedule."""
    policy = make_policy()
    batch = draw_batch(policy, NUM_SAMPLES)
    inputs = policy.encode(batch.observations, batch.tasks)
    chains = torch.from_numpy(batch.chains)
    with torch.no_grad():
        means = policy.transition_means(policy.prefix(inputs), inputs, chains, SAMPLING)
    horizon = policy.card.execute_steps
    noise = (chains[:, 1:, :horizon, :7] - means) / policy.scored_stds(SAMPLING)[:, None, None]
    # the chains themselves say what was drawn: chunk i depends on seed i
    generators = [np.random.Generator(np.random.Philox(seed)) for seed in range(NUM_SAMPLES)]
    shape = (SAMPLING.num_steps + 1, policy.card.horizon, policy.card.action_dim)
    drawn = np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators])
    np.testing.assert_allclose(noise, drawn[:, 1:, :horizon, :7], atol=2e-4)


@pytest.mark.parametrize("objective", ["flow_sde", "nft", "cfg", "bc"])
def test_every_objective_trains_the_expert_with_its_norms_and_nothing_that_is_frozen(
    objective: str,
):
    policy = make_policy()
    before = weights_of(policy)

    stats = train(policy, draw_batch(policy, NUM_SAMPLES), replace(ALGO, objective=objective))

    assert stats.num_optimizer_steps == 4
    assert np.isfinite([stats.loss, stats.grad_norm]).all()
    names = changed(before, policy)
    assert {
        "core.embed_action_time.time_mlp_in.weight",
        "core.model.dit.norm.dense.weight",
    } <= names
    assert not any("model.vlm." in name for name in names)


def test_a_reference_holds_it_back():
    policy, held = make_policy(), make_policy()
    batch = draw_batch(policy, NUM_SAMPLES)
    algo = replace(ALGO, objective="nft", lr=1e-3, num_epochs=4)

    train(policy, batch, algo)
    stats = train(held, batch, replace(algo, reference_weight=100.0))

    assert np.isfinite(stats.loss)
    assert moved(held) < moved(policy)


def moved(policy: Pi0Policy) -> float:
    """Return how far training has taken the weights."""
    before, after = weights_of(make_policy()), weights_of(policy)
    return float(sum((after[name] - before[name]).square().sum() for name in before))


def test_acting_follows_the_weights_although_its_time_grid_is_kept():
    policy = make_policy()
    first = act(policy)
    assert np.array_equal(act(policy), first)

    train(policy, draw_batch(policy, NUM_SAMPLES), replace(ALGO, lr=1e-3))

    after = act(policy)
    assert not np.allclose(after, first, atol=1e-4)
    policy.network._grids = type(policy.network._grids)()
    assert np.array_equal(act(policy), after)


def test_a_frozen_copy_keeps_acting_and_follows_when_told():
    policy = make_policy()
    policy.trainable_parameters(expert_only=True)
    before = act(policy)
    copy = make_frozen_copy(policy)
    with torch.no_grad():
        for weight in trained_weights(policy):
            weight.add_(0.01)
    assert np.array_equal(act(copy), before)
    copy_weights(trained_weights(copy), trained_weights(policy))
    assert np.array_equal(act(copy), act(policy))


def test_adapters_leave_the_modulation_alone_and_are_merged_into_what_is_saved(tmp_path):
    """``dense`` is no projection of tokens: it follows the time alone, and stays as it was trained."""
    pytest.importorskip("peft", reason="peft is not installed; pip install 'pi0-ript[lora]'")
    policy = make_policy()
    plain = act(policy)
    adapters = policy.add_adapters(rank=2, targets="expert", seed=1)
    assert len(adapters) == 28  # two layers of 7 projections with two matrices each
    np.testing.assert_allclose(act(policy), plain, atol=1e-6)
    with torch.no_grad():
        for number, adapter in enumerate(adapters):
            adapter.normal_(std=0.05, generator=torch.Generator().manual_seed(number))
    adapted = act(policy)
    assert not np.allclose(adapted, plain, atol=1e-3)
    save_policy(policy, tmp_path)
    np.testing.assert_allclose(act(load_policy(tmp_path)), adapted, atol=1e-5)


def test_half_precision_scores_what_it_acted():
    policy = make_policy()
    policy.network.cast_backbone(torch.bfloat16)
    norms = [m for m in policy.network.modules() if isinstance(m, AdaptiveNorm)]
    assert {parameter.dtype for norm in norms for parameter in norm.parameters()} == {torch.float32}

    stats = train(policy, draw_batch(policy, NUM_SAMPLES), replace(ALGO, num_minibatches=1))

    assert stats.num_optimizer_steps >= 1
    assert np.isfinite(stats.loss)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ranks_learn_what_a_single_process_learns(strategy: str):
    gradients, weights, _ = learn(SINGLE_PROCESS, ({0, 1, 2, 3},), RANKS_ALGO, 1, is_pi05=True)

    results = run_ranks(2, _learn_on_ranks, ({0, 2}, {1, 3}), strategy)

    for found, found_weights, _ in results:
        assert distance(found[0], gradients[0]) < 1e-6
        torch.testing.assert_close(found_weights, weights, rtol=0, atol=1e-5)


def _learn_on_ranks(ranks, owners, strategy):
    return learn(ranks, owners, RANKS_ALGO, 1, strategy, is_pi05=True)
