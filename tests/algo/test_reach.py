"""Objectives learn in a small world, and do not learn where there is nothing to learn."""

import pytest
import torch
from torch import Tensor

from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.algo.nft import Nft
from pi0.ript.config.algo import AlgoConfig
from tests.algo.reach import clone, success_rate, train

FLOW_SDE, NFT = AlgoConfig(), AlgoConfig(objective="nft")
RULES = [
    pytest.param(lambda: FlowSde(FLOW_SDE), 1e-3, id="flow_sde"),
    pytest.param(lambda: Nft(NFT), 3e-4, id="nft"),
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small products: threads would only wait for each other
    yield
    torch.set_num_threads(before)


def shuffled(rewards: Tensor, generator: torch.Generator) -> Tensor:
    """Deal the rewards of every group out anew: what was learned from them can only be noise."""
    order = torch.rand(rewards.shape, generator=generator).argsort(dim=1)
    return rewards.gather(1, order)


def flipped(rewards: Tensor, generator: torch.Generator) -> Tensor:
    return 1.0 - rewards


@pytest.mark.parametrize(("rule", "lr"), RULES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_raises_success_from_a_third_to_nine_tenths(rule, lr: float, seed: int):
    policy, generator = clone(seed)
    base = success_rate(policy)

    train(policy, rule(), generator, updates=40, lr=lr)

    assert 0.2 < base < 0.45
    assert success_rate(policy) > 0.9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_on_rollouts_that_are_one_update_behind_reaches_the_same_success(seed: int):
    policy, generator = clone(seed)

    train(policy, FlowSde(FLOW_SDE), generator, updates=40, lr=1e-3, is_one_behind=True)

    assert success_rate(policy) > 0.9


@pytest.mark.parametrize(("rule", "lr"), RULES)
def test_rewards_shuffled_within_the_group_have_no_signal(rule, lr: float):
    # A leak would raise success in every run, as in the test above; noise moves it either way.
    change = []
    for seed in range(3):
        policy, generator = clone(seed)
        base = success_rate(policy)
        train(policy, rule(), generator, updates=10, lr=lr, alter=shuffled)
        change.append(success_rate(policy) - base)

    assert abs(sum(change) / 3) < 0.15


@pytest.mark.parametrize(("rule", "lr"), RULES)
def test_rewards_of_the_wrong_sign_unlearn(rule, lr: float):
    policy, generator = clone(0)
    base = success_rate(policy)

    train(policy, rule(), generator, updates=15, lr=lr, alter=flipped)

    assert success_rate(policy) < 0.5 * base


def test_a_reference_policy_holds_training_back():
    distances = []
    for weight in (0.0, 10.0):
        policy, generator = clone(0)
        before = [p.detach().clone() for p in policy.parameters()]
        rule = FlowSde(AlgoConfig(reference_weight=weight))
        train(policy, rule, generator, updates=10, lr=1e-3)
        moved = zip(policy.parameters(), before, strict=True)
        distances.append(float(sum((p.detach() - old).square().sum() for p, old in moved)))

    assert distances[1] < 0.5 * distances[0]
